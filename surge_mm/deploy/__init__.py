"""Run what was trained: binary layers packed to a bit a weight, and fast on a CPU."""

from .engine import instruction_set
from .file import load_packed, save_packed
from .layers import PackedConv2d, PackedLinear
from .packing import Packing, pack, strip

__all__ = [
    'PackedConv2d',
    'PackedLinear',
    'Packing',
    'instruction_set',
    'load_packed',
    'pack',
    'save_packed',
    'strip',
]
