"""Public names that are imported when they are first used, since they need MMEngine or a host, and their modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def _modules(names: Mapping[str, str]) -> dict[str, str]:
    """Return the module of each name, from the names of each module."""
    return {name: module for module, line in names.items() for name in line.split()}


MODELS = _modules(
    {
        'surge_mm.models.backbones': 'ReActNetA SurgeBert SurgeResNet SurgeVGGSmall',
        'surge_mm.models.binarization.binarized_model': 'Binarized',
        'surge_mm.models.classifiers': 'DistilledClassifier DistilledTextClassifier TextClassifier',
        'surge_mm.models.data_preprocessors': 'BatchAugmentPreprocessor TextDataPreprocessor',
        'surge_mm.models.detectors': 'DistilledDetector',
        'surge_mm.models.heads': 'FCOSSepBNHead SSDHead',
    }
)
"""Module of each model. They are names of ``surge_mm.models`` and of ``surge_mm``."""
PACKAGE = MODELS | _modules(
    {
        'surge_mm.datasets.cifar': 'CIFAR10Tensor',
        'surge_mm.datasets.language.glue': 'GlueDataset',
        'surge_mm.datasets.language.length_batches': 'LengthBatchSampler',
        'surge_mm.datasets.language.metric': 'GlueMetric',
        'surge_mm.hooks': 'AdaptiveGradientScalerHook BinarizerScheduleHook ChannelsLastHook ExactResumeHook '
        'GradientReportHook NonFiniteGuardHook SafeCheckpointHook SurrogateGradientHook',
        'surge_mm.models': 'binarize register_transformers to_float',
        'surge_mm.models.hugging_face_init': 'HuggingFaceInit',
        'surge_mm.runner': 'CPUAmpOptimWrapper SafeRunner',
    }
)
"""Module of each name of ``surge_mm`` beside the layers."""
DEPLOY = _modules(
    {
        'surge_mm.deploy.predict.detector': 'Detections Detector',
        'surge_mm.deploy.predict.predictor': 'Predictor',
        'surge_mm.deploy.predict.text_predictor': 'TextPredictor',
    }
)
"""Module of each name of ``surge_mm.deploy`` beside packing."""


def lazily(
    package: dict[str, Any], modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package that imports names when they are first used.

    Args:
        package (dict): ``globals()`` of the package, which keeps the values.
        modules (dict): module of each name.

    Returns:
        tuple: both functions.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f'module {package["__name__"]!r} has no attribute {name!r}')
        package[name] = value = getattr(import_module(modules[name]), name)
        return value

    return get, lambda: sorted({*package, *modules})
