"""Whether the rest of a config fits its datasets: the files are where it says, the heads and the evaluators match."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmengine.config import Config

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.utils.errors import DatasetError


def must_exist(key: str, path: str, root_key: str) -> None:
    if os.path.exists(path):
        return
    way_out = f'{key}=PATH' if key == root_key else f'{root_key}=FOLDER (or {key}=PATH)'
    raise DatasetError(
        f'{key} is not there: {path}\n'
        f'  looked for from the current directory {os.getcwd()}\n'
        f'  way out: --cfg-options {way_out}'
    )


def match_heads(key: str, classes: Sequence[str] | None, cfg: Config) -> None:
    """Refuses a head with another number of classes than the dataset: labels beyond it would count as background."""
    model = cfg.get('model')
    if classes is None or not isinstance(model, dict) or cfg.get('default_scope') != 'mmdet':
        return
    for name, number in _head_classes('model', model):
        if number != len(classes):
            raise DatasetError(
                f'{name}.num_classes={number}, but {key} has {len(classes)} classes ({some(list(classes))})\n'
                f'  way out: --cfg-options {name}.num_classes={len(classes)}'
            )


def _head_classes(name: str, part: Any) -> Iterator[tuple[str, int]]:
    """The num_classes of heads on boxes and masks, with their keys; region proposals have none to compare."""
    for key in ('roi_head', 'bbox_head', 'mask_head'):
        heads = part.get(key)
        for i, head in enumerate(heads if isinstance(heads, list) else [heads]):
            path = f'{name}.{key}.{i}' if isinstance(heads, list) else f'{name}.{key}'
            if isinstance(head, dict):
                if 'num_classes' in head:
                    yield path, head['num_classes']
                yield from _head_classes(path, head)


def check_evaluator(
    key: str,
    evaluator: Any,
    contents: list[Annotations],
    read: Callable[[str, bool], Annotations],
) -> list[str]:
    path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
    if not path or '://' in path:
        return []
    ann_key = f'{key}.ann_file'
    must_exist(ann_key, path, ann_key)
    if str(evaluator['type']).split('.')[-1] != 'CocoMetric':
        return []
    truth = read(path, False)
    if truth.without_iscrowd:
        raise DatasetError(
            f'{ann_key}: {truth.without_iscrowd:,} annotations of {path} have no "iscrowd" of 0 or 1, '
            'which the COCO evaluation reads: add "iscrowd": 0'
        )
    for content in contents:
        lacking = set(content.image_files) - set(truth.image_files)
        if lacking:
            raise DatasetError(
                f'{ann_key}={path} lacks {len(lacking):,} of the {len(content.image_files):,} images '
                f'of {content.source}: evaluator and dataloader need the same annotation file'
            )
    if truth.empty_boxes:
        return [
            f'warning: {key}: the COCO evaluation counts {len(truth.empty_boxes):,} boxes of zero '
            f'size in {path} as objects'
        ]
    return []
