"""Inference of trained models: binary layers packed to one bit per weight, fast on a CPU."""

from typing import TYPE_CHECKING, Any

from surge_mm.deploy.capture.network import CapturedNetwork
from surge_mm.deploy.convert import Packing, pack, strip
from surge_mm.deploy.cpu.backend import instruction_set
from surge_mm.deploy.optional_packages import lean_imports
from surge_mm.deploy.packed_file.save_load import load_packed, save_packed
from surge_mm.deploy.packed_layers import PackedConv2d, PackedLinear

if TYPE_CHECKING:
    from surge_mm.deploy.detector import Detections, Detector

__all__ = [
    'CapturedNetwork',
    'Detections',
    'Detector',
    'PackedConv2d',
    'PackedLinear',
    'Packing',
    'instruction_set',
    'lean_imports',
    'load_packed',
    'pack',
    'save_packed',
    'strip',
]


def __getattr__(name: str) -> Any:
    """Import what needs MMEngine and MMCV when it is first used; packing needs PyTorch alone."""
    if name in ('Detections', 'Detector'):
        from surge_mm.deploy import detector

        return getattr(detector, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
