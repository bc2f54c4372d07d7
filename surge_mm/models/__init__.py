"""Backbones with binary layers, and binarization of any model by rules.

``binarize`` and ``to_float`` need PyTorch alone. The models are built on MMEngine, MMDetection and MMPretrain, which
are imported when a model is first accessed.
"""

from typing import TYPE_CHECKING

from surge_mm._names import MODELS, lazily
from surge_mm.models.binarization.binarize import binarize, register_transformers
from surge_mm.models.binarization.layer_reports import LayerReport, layer_reports
from surge_mm.models.binarization.rules import Rule
from surge_mm.models.binarization.to_float import to_float

if TYPE_CHECKING:
    from surge_mm.models.backbones import *  # noqa: F403
    from surge_mm.models.binarization.binarized_model import Binarized  # noqa: F401
    from surge_mm.models.classifiers import *  # noqa: F403
    from surge_mm.models.data_preprocessors import *  # noqa: F403
    from surge_mm.models.detectors import *  # noqa: F403
    from surge_mm.models.heads import *  # noqa: F403

__all__ = [
    'LayerReport',
    'Rule',
    'binarize',
    'layer_reports',
    'register_transformers',
    'to_float',
    *MODELS,
]
__getattr__, __dir__ = lazily(globals(), MODELS)
