"""The evaluation set of a config: its pipeline, image size and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from surge_mm.datasets.language.tasks import TASKS
from surge_mm.datasets.language.wordpiece import MAX_LENGTH
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import LaunchError

TENSORS = 'CIFAR10Tensor'
TEXTS = 'GlueDataset'


def evaluation_set(cfg: Config) -> Mapping[str, Any]:
    """Return the config of the test set without its wrappers, or of the validation set if there is no test set."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    dataset = loader.get('dataset') or {}
    while 'pipeline' not in dataset and ('dataset' in dataset or dataset.get('datasets')):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def evaluation_pipeline(cfg: Config) -> list[Any]:
    """Return the steps from an image file to the input of the model; an empty list if the config has none.

    :class:`surge_mm.CIFAR10Tensor` has no pipeline. The steps returned for it give an RGB tensor as it has.
    """
    dataset = evaluation_set(cfg)
    if class_name(dataset.get('type')) != TENSORS:
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
    """Return height and width of the images after the test pipeline.

    Args:
        cfg (Config): config of a run.

    Returns:
        tuple[int, int]: height and width.

    Raises:
        LaunchError: if no step of the pipeline sets the size.
    """
    for step in reversed(evaluation_pipeline(cfg)):
        kind = class_name(step['type'])
        if kind in ('CenterCrop', 'RandomCrop') and 'crop_size' in step:
            crop = step['crop_size']
            return (crop, crop) if isinstance(crop, int) else tuple(crop)
        if kind == 'Pad' and step.get('size') is not None:
            size = step['size']  # (width, height)
            return (size, size) if isinstance(size, int) else (size[1], size[0])
        if kind in ('Resize', 'FixScaleResize') and 'scale' in step:
            scale = step['scale']
            if isinstance(scale, int):
                return scale, scale
            # without keep_ratio, (width, height); with it, bounds of the two sides in any order
            return (min(scale), max(scale)) if step.get('keep_ratio') else (scale[1], scale[0])
    raise LaunchError(
        'no step of the test pipeline sets the size of an image: add --shape HEIGHT WIDTH'
    )


def text_length(model: Any, cfg: Config) -> int:
    """Return the maximum number of tokens of a text: that of a packed model, or of the test set.

    Args:
        model (nn.Module): the model.
        cfg (Config): its config.

    Raises:
        LaunchError: if the test set is not one of texts.
    """
    if hasattr(model, 'vocabulary'):
        return model.vocabulary['max_length']
    dataset = evaluation_set(cfg)
    if class_name(dataset.get('type')) != TEXTS:
        raise LaunchError('the config has no test set of texts: add --length TOKENS')
    return dataset.get('max_length', MAX_LENGTH)


def dataset_meta(cfg: Config) -> dict[str, Any]:
    """Return the meta information of the test set, such as ``classes``, without loading its data.

    Args:
        cfg (Config): config of a run.

    Returns:
        dict[str, Any]: ``metainfo`` of the dataset class and of the config, keys in lower case. Empty if the dataset is
        not one of MMEngine.
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
    meta = {
        key.lower(): value for key, value in kind._load_metainfo(dataset.get('metainfo')).items()
    }
    task = TASKS.get(dataset.get('task', '')) if class_name(dataset['type']) == TEXTS else None
    return {'task': dataset['task'], 'classes': task.classes, **meta} if task else meta
