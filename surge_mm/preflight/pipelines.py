"""Reading of the pipeline of a dataset, and advice on a step to add to it."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import TRANSFORMS

# Narrower images than 1 to 32 may be resized to a single pixel or none.
EXTREME_SHAPE = 32
FILTER = "dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(0, 0), keep_empty=False)"
"""The step that leaves out boxes without area."""


def decoder_of(config: ConfigDict) -> str:
    """Return the ``imdecode_backend`` of the images of a dataset."""
    return _step(config, 'LoadImageFromFile').get('imdecode_backend', 'cv2')


def has_masks(config: ConfigDict) -> bool:
    """Return whether the pipeline of a dataset loads masks."""
    return _step(config, 'LoadAnnotations').get('with_mask', False)


def _step(config: ConfigDict, kind: str) -> dict[str, Any]:
    steps = [step for step in config.get('pipeline', []) if _kind(step) == kind]
    return steps[0] if steps else {}


def _kind(step: dict[str, Any]) -> str:
    kind = step['type']
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def advise_filter(key: str, config: ConfigDict, clipped: bool = False) -> str:
    """Return how the host leaves out boxes without area, or the step to add to the pipeline.

    Args:
        key (str): config key of the dataset.
        config (ConfigDict): its config.
        clipped (bool): whether the boxes lose their area in the pipeline, as by ``Resize``. Defaults to False.

    Returns:
        str: the end of a warning.
    """
    if not clipped and (config.get('filter_cfg') or {}).get('bbox_min_size', 0) >= 1:
        return 'filter_cfg.bbox_min_size leaves them out'
    kinds = [_kind(step) for step in config.get('pipeline', [])]
    if 'LoadAnnotations' not in kinds:
        return 'the pipeline loads no annotations'
    end = next((i for i, kind in enumerate(kinds) if kind.startswith('Pack')), len(kinds))
    if 'FilterAnnotations' in (kinds[end - 1 : end] if clipped else kinds):
        return 'FilterAnnotations in the pipeline leaves them out'
    place = end if clipped else kinds.index('LoadAnnotations') + 1
    return f'to leave them out, insert {FILTER} at index {place} of {key}.pipeline'


def shape_defect(
    dataset: BaseDataset, config: ConfigDict, scope: str | None, path: str, size: tuple[int, int]
) -> str | None:
    """Send an image of extreme shape through a pipeline.

    An image with a side of a single pixel is a defect: PyTorch does not accept NumPy's flip of it.

    Args:
        dataset (BaseDataset): the dataset.
        config (ConfigDict): its config.
        scope (str, optional): ``default_scope`` of the config.
        path (str): the image.
        size (tuple[int, int]): its width and height.

    Returns:
        str, optional: what is wrong, or None.
    """
    width, height = size
    if max(size) <= EXTREME_SHAPE * min(size):
        return None
    info = {'img_path': path, 'img_id': 0, 'width': width, 'height': height, 'instances': []}
    try:
        with TRANSFORMS.switch_scope_and_registry(scope):
            loaded = Compose(config.get('pipeline', []))({**dataset.metainfo, **info})
    except Exception as error:  # any error of a step would end the training
        message = str(error).strip().splitlines()[-1:]
        return f'of {width} x {height} pixels fails in the pipeline ({"".join(message)})'
    if loaded and min(_sides(loaded)) < 2:
        return f'of {width} x {height} pixels is left with a side of a single pixel by the pipeline'
    return None


def _sides(loaded: dict[str, Any]) -> tuple[int, ...]:
    return tuple(loaded['inputs'].shape[-2:] if 'inputs' in loaded else loaded['img'].shape[:2])
