"""What a config says of the images that its model is made for: their pipeline, their size, their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from surge_mm.utils.errors import LaunchError

TENSORS = 'surge_mm.CIFAR10Tensor'


def evaluation_set(cfg: Config) -> Mapping[str, Any]:
    """The test set of a config, or where it has none the validation set, without its wrappers."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def evaluation_pipeline(cfg: Config) -> list[Any]:
    """The steps from the file of an image to the input of the model; empty where the config has none.

    :class:`surge_mm.CIFAR10Tensor` has none, for its images are tensors in RGB: these are the steps to such a tensor.
    """
    dataset = evaluation_set(cfg)
    if dataset.get('type') != TENSORS:
        return list(dataset.get('pipeline') or [])
    size = dataset.get('size', 32)
    steps: list[dict[str, Any]] = [
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': (size, size)},
        {'type': 'NumpyToPIL', 'to_rgb': True},
        {'type': 'PILToNumpy'},
        {'type': 'PackInputs'},
    ]
    return [{**step, '_scope_': 'mmpretrain'} for step in steps]


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of what the test pipeline gives.

    Raises:
        LaunchError: the pipeline does not say.
    """
    for step in reversed(evaluation_pipeline(cfg)):
        kind = str(step['type']).rpartition('.')[2]
        if kind in ('CenterCrop', 'RandomCrop', 'Pad') and 'crop_size' in step:
            crop = step['crop_size']
            return (crop, crop) if isinstance(crop, int) else tuple(crop)
        if kind in ('Resize', 'FixScaleResize') and 'scale' in step:
            scale = step['scale']
            return (scale, scale) if isinstance(scale, int) else (min(scale), max(scale))
    raise LaunchError(
        'the test pipeline does not say how large an image is: add --shape HEIGHT WIDTH'
    )


def dataset_meta(cfg: Config) -> dict[str, Any]:
    """What the test set says of itself, as its class and its ``metainfo`` have it: ``classes``, ``palette``.

    The data itself need not be there. Empty where the class of the dataset is no one's of MMEngine.
    """
    dataset = evaluation_set(cfg)
    if 'type' not in dataset:
        return {}
    scope = dataset.get('_scope_', cfg.get('default_scope'))
    with DATASETS.switch_scope_and_registry(scope) as registry:
        kind = dataset['type']
        kind = registry.get(kind) if isinstance(kind, str) else kind
    if not hasattr(kind, '_load_metainfo'):
        return {}
    return {
        key.lower(): value for key, value in kind._load_metainfo(dataset.get('metainfo')).items()
    }
