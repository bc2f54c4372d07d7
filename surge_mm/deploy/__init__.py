"""Inference of trained models: binary layers packed to one bit per weight, fast on a CPU."""

from surge_mm.deploy.convert import Packing, pack, strip
from surge_mm.deploy.cpu.backend import instruction_set
from surge_mm.deploy.packed_file.save_load import load_packed, save_packed
from surge_mm.deploy.packed_layers import PackedConv2d, PackedLinear

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
