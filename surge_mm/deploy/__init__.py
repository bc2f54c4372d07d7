"""Run what was trained: binary layers packed to a bit a weight, and fast on a CPU."""

from .engine import instruction_set
from .layers import PackedConv2d, PackedLinear
from .packing import Packing, pack, strip

__all__ = ['PackedConv2d', 'PackedLinear', 'Packing', 'instruction_set', 'pack', 'strip']
