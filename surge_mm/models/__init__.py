"""Backbones with binary layers, and binarization of any model by rules.

``binarize`` and ``to_float`` need PyTorch alone. The models are built on MMEngine, MMDetection and MMPretrain, which
are imported when a model is first accessed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from surge_mm.models.binarization.binarize import binarize, register_transformers
from surge_mm.models.binarization.layer_reports import LayerReport, layer_reports
from surge_mm.models.binarization.rules import Rule
from surge_mm.models.binarization.to_float import to_float

if TYPE_CHECKING:
    from surge_mm.models.backbones import ReActNetA, SurgeBert, SurgeResNet, SurgeVGGSmall
    from surge_mm.models.binarization.binarized_model import Binarized
    from surge_mm.models.classifiers import (
        DistilledClassifier,
        DistilledTextClassifier,
        TextClassifier,
    )
    from surge_mm.models.data_preprocessors import BatchAugmentPreprocessor, TextDataPreprocessor
    from surge_mm.models.detectors import DistilledDetector
    from surge_mm.models.heads import FCOSSepBNHead, SSDHead

__all__ = [
    'BatchAugmentPreprocessor',
    'Binarized',
    'DistilledClassifier',
    'DistilledDetector',
    'DistilledTextClassifier',
    'FCOSSepBNHead',
    'LayerReport',
    'ReActNetA',
    'Rule',
    'SSDHead',
    'SurgeBert',
    'SurgeResNet',
    'SurgeVGGSmall',
    'TextClassifier',
    'TextDataPreprocessor',
    'binarize',
    'layer_reports',
    'register_transformers',
    'to_float',
]
MODULES = {
    'BatchAugmentPreprocessor': 'surge_mm.models.data_preprocessors',
    'Binarized': 'surge_mm.models.binarization.binarized_model',
    'DistilledClassifier': 'surge_mm.models.classifiers',
    'DistilledDetector': 'surge_mm.models.detectors',
    'DistilledTextClassifier': 'surge_mm.models.classifiers',
    'FCOSSepBNHead': 'surge_mm.models.heads',
    'ReActNetA': 'surge_mm.models.backbones',
    'SSDHead': 'surge_mm.models.heads',
    'SurgeBert': 'surge_mm.models.backbones',
    'SurgeResNet': 'surge_mm.models.backbones',
    'SurgeVGGSmall': 'surge_mm.models.backbones',
    'TextClassifier': 'surge_mm.models.classifiers',
    'TextDataPreprocessor': 'surge_mm.models.data_preprocessors',
}
"""The module of each model, imported on first access."""


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES})
