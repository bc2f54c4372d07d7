"""Inference of trained models: binary layers packed to one bit per weight, fast on a CPU."""

from typing import TYPE_CHECKING

from surge_mm._names import DEPLOY, lazily
from surge_mm.deploy.capture.network import CapturedNetwork
from surge_mm.deploy.cpu.backend import instruction_set
from surge_mm.deploy.packed_file.save_load import load_packed, save_packed
from surge_mm.deploy.packing.convert import Packing, pack, strip
from surge_mm.deploy.packing.packed_layers import PackedConv2d, PackedLinear
from surge_mm.deploy.predict.optional_packages import lean_imports

if TYPE_CHECKING:
    from surge_mm.deploy.predict.detector import Detections, Detector  # noqa: F401
    from surge_mm.deploy.predict.predictor import Predictor  # noqa: F401
    from surge_mm.deploy.predict.text_predictor import TextPredictor  # noqa: F401

__all__ = [
    'CapturedNetwork',
    'PackedConv2d',
    'PackedLinear',
    'Packing',
    'instruction_set',
    'lean_imports',
    'load_packed',
    'pack',
    'save_packed',
    'strip',
    *DEPLOY,
]
__getattr__, __dir__ = lazily(globals(), DEPLOY)
