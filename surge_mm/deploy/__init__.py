"""Inference of trained models: binary layers packed to one bit per weight, fast on a CPU."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surge_mm.deploy.capture.network import CapturedNetwork
from surge_mm.deploy.cpu.backend import instruction_set
from surge_mm.deploy.packed_file.save_load import load_packed, save_packed
from surge_mm.deploy.packing.convert import Packing, pack, strip
from surge_mm.deploy.packing.packed_layers import PackedConv2d, PackedLinear
from surge_mm.deploy.predict.optional_packages import lean_imports

if TYPE_CHECKING:
    from surge_mm.deploy.predict.detector import Detections, Detector
    from surge_mm.deploy.predict.predictor import Predictor
    from surge_mm.deploy.predict.text_predictor import TextPredictor

__all__ = [
    'CapturedNetwork',
    'Detections',
    'Detector',
    'PackedConv2d',
    'PackedLinear',
    'Packing',
    'Predictor',
    'TextPredictor',
    'instruction_set',
    'lean_imports',
    'load_packed',
    'pack',
    'save_packed',
    'strip',
]


_WITH_HOSTS = {
    'Detections': 'detector',
    'Detector': 'detector',
    'Predictor': 'predictor',
    'TextPredictor': 'text_predictor',
}
"""Names that need MMEngine and MMCV, with their modules of ``predict``. Packing needs PyTorch alone."""


def __getattr__(name: str) -> Any:
    """Import what needs MMEngine and MMCV when it is first used."""
    if name in _WITH_HOSTS:
        return getattr(import_module(f'surge_mm.deploy.predict.{_WITH_HOSTS[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
