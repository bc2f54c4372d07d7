"""What the check asks of a dataset's pipeline, and the one step that it adds to it."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import TRANSFORMS

# Narrower images than 1 to 32 may be resized to a single pixel or none.
EXTREME_SHAPE = 32


def decoder_of(config: ConfigDict) -> str:
    """The decoder of a dataset's images."""
    return _step(config, 'LoadImageFromFile').get('imdecode_backend', 'cv2')


def has_masks(config: ConfigDict) -> bool:
    return _step(config, 'LoadAnnotations').get('with_mask', False)


def _step(config: ConfigDict, kind: str) -> dict[str, Any]:
    steps = [step for step in config.get('pipeline', []) if _kind(step) == kind]
    return steps[0] if steps else {}


def _kind(step: dict[str, Any]) -> str:
    return str(step['type']).split('.')[-1]


def leave_out_empty_boxes(config: ConfigDict) -> str:
    """Makes the host leave out a VOC dataset's boxes of zero size, and says how."""
    if (config.get('filter_cfg') or {}).get('bbox_min_size', 0) >= 1:
        return 'by filter_cfg.bbox_min_size'
    kinds = [_kind(step) for step in config.get('pipeline', [])]
    if 'FilterAnnotations' in kinds:
        return 'by FilterAnnotations in the pipeline'
    if 'LoadAnnotations' not in kinds:
        return 'the pipeline loads no annotations'
    return _add_filter(config, kinds.index('LoadAnnotations') + 1)


def leave_out_clipped_boxes(config: ConfigDict) -> str:
    """Makes the host leave out boxes of which ``Resize`` leaves nothing, and says how."""
    kinds = [_kind(step) for step in config.get('pipeline', [])]
    if 'LoadAnnotations' not in kinds:
        return 'the pipeline loads no annotations'
    end = next((i for i, kind in enumerate(kinds) if kind.startswith('Pack')), len(kinds))
    if kinds[end - 1] == 'FilterAnnotations':
        return 'by FilterAnnotations in the pipeline'
    return _add_filter(config, end)


def _add_filter(config: ConfigDict, position: int) -> str:
    step = {'type': 'mmdet.FilterAnnotations', 'min_gt_bbox_wh': (0, 0), 'keep_empty': False}
    pipeline = list(config['pipeline'])
    pipeline.insert(position, ConfigDict(step))
    config['pipeline'] = pipeline
    return 'by FilterAnnotations, added to the pipeline'


def shape_defect(
    dataset: BaseDataset, config: ConfigDict, scope: str | None, path: str, size: tuple[int, int]
) -> str | None:
    """Sends an image of extreme shape through the pipeline: what it fails with, or None.

    A side of a single pixel is too little: NumPy's flip of it is nothing that PyTorch takes.
    """
    width, height = size
    if max(size) <= EXTREME_SHAPE * min(size):
        return None
    info = {'img_path': path, 'img_id': 0, 'width': width, 'height': height, 'instances': []}
    try:
        with TRANSFORMS.switch_scope_and_registry(scope):
            loaded = Compose(config.get('pipeline', []))({**dataset.metainfo, **info})
    except Exception as error:  # whatever a step raises would end the training
        words = str(error).strip().splitlines()[-1:]
        return f'of {width} x {height} pixels does not go through the pipeline ({"".join(words)})'
    if loaded and min(_sides(loaded)) < 2:
        return f'of {width} x {height} pixels is left with a side of a single pixel by the pipeline'
    return None


def _sides(loaded: dict[str, Any]) -> tuple[int, ...]:
    return tuple(loaded['inputs'].shape[-2:] if 'inputs' in loaded else loaded['img'].shape[:2])
