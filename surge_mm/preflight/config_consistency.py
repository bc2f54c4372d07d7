"""Consistency of a config: paths exist; class lists, heads and evaluators match the annotations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import DatasetError

IGNORED = 'iscrowd, difficult, or below bbox_min_size of filter_cfg'
"""Why MMDetection does not train on a box that it reads."""


def must_exist(key: str, path: str, root_key: str) -> None:
    """Check that a path of a config exists.

    Args:
        key (str): config key of the path.
        path (str): the path.
        root_key (str): config key of the folder that the path is relative to; ``key`` if there is none.

    Raises:
        DatasetError: if it does not exist.
    """
    if os.path.exists(path):
        return
    options = f'{key}=PATH' if key == root_key else f'{root_key}=FOLDER (or {key}=PATH)'
    raise DatasetError(
        f'{key} does not exist: {path}\n'
        f'  relative to the current directory {os.getcwd()}\n'
        f'  set it with --cfg-options {options}'
    )


def check_class_list(key: str, classes: Any) -> None:
    """Check the class list of a dataset by itself.

    Args:
        key (str): config key of the dataset.
        classes (Any): ``metainfo['classes']`` of the dataset.

    Raises:
        DatasetError: if it is not a list of names, or has a name twice.
    """
    if not classes or isinstance(classes, str):
        raise DatasetError(
            f"{key}.metainfo.classes={classes!r} must be a list of names: classes=('name', ...)"
        )
    for name, count in Counter(classes).most_common(1):
        if count > 1:
            raise DatasetError(
                f'{key}.metainfo.classes has {name!r} {count} times: each name needs one label, so name it once'
            )


def match_classes(key: str, classes: Sequence[str], content: Annotations) -> None:
    """Check that the class list of a dataset and its annotations have a name in common.

    Args:
        key (str): config key of the dataset.
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.
        content (Annotations): content of its annotation file.

    Raises:
        DatasetError: if they have no name in common.
    """
    if content.names and not set(content.names) & set(classes):
        raise DatasetError(
            f'{key}.metainfo.classes matches no annotation of {content.source}\n'
            f'  the class list has: {some(classes)}\n'
            f'  the annotations have: {some(content.names)}\n'
            f'  set metainfo=dict(classes=(...)) in the dataset to the names of the annotations'
        )


def count_boxes(
    key: str, classes: Sequence[str], content: Annotations, total: int, training: bool
) -> list[str]:
    """Count the images and boxes that a dataset uses.

    Args:
        key (str): config key of the dataset.
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.
        content (Annotations): content of the images that it uses.
        total (int): number of images in its annotation file.
        training (bool): whether the dataset is trained on.

    Returns:
        list[str]: a line with counts, and warnings.
    """
    counts = content.counts
    missing = [name for name in classes if name not in counts]
    boxes = sum(counts.get(name, 0) for name in classes)
    ignored = sum(content.ignored_counts.get(name, 0) for name in classes)
    used = len(content.image_files)
    part = f'{used:,} of ' if used < total else ''
    lines = [
        f'{key}: {part}{total:,} images, {boxes:,} boxes of {len(classes) - len(missing)} classes'
        + (f'; {ignored:,} boxes are ignored ({IGNORED})' if ignored else '')
    ]
    if training and not boxes:
        lines.append(f'warning: {key}.ann_file has no annotation to train on: {content.source}')
    elif missing and counts:
        lines.append(
            f'warning: {key}: {len(missing)} of {len(classes)} classes have no box: {some(missing)}'
        )
    if content.orphans:
        lines.append(
            f'warning: {key}: {content.orphans:,} annotations of images or categories that {content.source} does not '
            'list are left out'
        )
    others = [
        f'{name or "an empty name"} ({n:,})' for name, n in counts.items() if name not in classes
    ]
    if others:
        lines.append(
            f'warning: {key}: {sum(counts.values()) - boxes:,} boxes of names outside the class list are left out: '
            f'{some(others)}'
        )
    return lines


def match_class_order(key: str, classes: Sequence[str], content: Annotations) -> list[str]:
    """Compare the order of a class list with a COCO file, by which ``CocoDataset`` numbers the labels.

    Args:
        key (str): config key of the dataset.
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.
        content (Annotations): content of its COCO file.

    Returns:
        list[str]: a warning if the orders differ, or nothing.
    """
    order = [name for name in content.names if name in classes]
    if not order or order == list(classes):
        return []
    return [
        f'warning: {key}: MMDetection numbers the classes in the order of {content.source} ({some(order)}), '
        f'not in that of metainfo.classes ({some(classes)})'
    ]


def match_labels(labels: Mapping[str, Sequence[str]], cfg: Config) -> None:
    """Check that a class has the same label in all datasets of a config.

    Detectors without a head of ``num_classes``, such as an RPN, and those with a language model are left out.

    Args:
        labels (Mapping[str, Sequence[str]]): names of the classes in the order of their labels, by config key of the
            dataset.
        cfg (Config): config of the run.

    Raises:
        DatasetError: if a class has two labels.
    """
    model = cfg.get('model')
    if isinstance(model, dict) and (
        model.get('language_model') or not any(head_classes('model', model))
    ):
        return
    first: dict[str, tuple[str, int]] = {}
    for key, names in labels.items():
        for label, name in enumerate(names):
            other, expected = first.setdefault(name, (key, label))
            if label != expected:
                raise DatasetError(
                    f'class {name!r} has label {expected} in {other}, but label {label} in {key}\n'
                    f'  the classes of {other}: {some(labels[other])}\n'
                    f'  the classes of {key}: {some(names)}\n'
                    '  list the same classes in the same order. CocoDataset takes the order of the categories in '
                    'ann_file, and leaves out those that ann_file lacks; XMLDataset takes that of metainfo.classes'
                )


def match_heads(key: str, classes: Sequence[str] | None, cfg: Config) -> None:
    """Check that the heads of a detector have as many classes as a dataset. More labels would count as background.

    Detectors with a language model are left out: theirs is the largest number of names in a prompt.

    Args:
        key (str): config key of the dataset.
        classes (Sequence[str], optional): the names of its classes with boxes: ``metainfo['classes']``, or
            ``metainfo['thing_classes']`` of a panoptic dataset.
        cfg (Config): config of the run.

    Raises:
        DatasetError: if a head has another number.
    """
    model = cfg.get('model')
    if classes is None or not isinstance(model, dict) or cfg.get('default_scope') != 'mmdet':
        return
    if model.get('language_model'):
        return
    for name, number in head_classes('model', model):
        if number != len(classes):
            raise DatasetError(
                f'{name}.num_classes={number}, but {key} has {len(classes)} classes ({some(list(classes))})\n'
                f'  set it with --cfg-options {name}.num_classes={len(classes)}'
            )


def head_classes(name: str, part: Any) -> Iterator[tuple[str, int]]:
    """Yield config key and ``num_classes`` of the box and mask heads of a detector. Proposal heads have one class.

    Args:
        name (str): config key of the part.
        part (Any): a part of the config of a model, such as the whole model.
    """
    for key in ('roi_head', 'bbox_head', 'mask_head'):
        heads = part.get(key)
        for i, head in enumerate(heads if isinstance(heads, list) else [heads]):
            path = f'{name}.{key}.{i}' if isinstance(heads, list) else f'{name}.{key}'
            if isinstance(head, dict):
                if 'num_classes' in head:
                    yield path, head['num_classes']
                yield from head_classes(path, head)


def check_evaluator(
    key: str,
    evaluator: Any,
    contents: list[Annotations],
    read: Callable[[str], Annotations],
) -> None:
    """Check the annotation file of an evaluator.

    Args:
        key (str): config key of the evaluator.
        evaluator (Any): its config.
        contents (list[Annotations]): contents of the datasets that it evaluates.
        read (Callable): reads a COCO file.

    Raises:
        DatasetError: if the file is missing, lacks images of the datasets, or lacks a key that the evaluation reads.
    """
    path = annotation_file(evaluator)
    if path is None:
        return
    ann_key = f'{key}.ann_file'
    must_exist(ann_key, path, ann_key)
    if class_name(evaluator['type']) != 'CocoMetric':
        return
    truth = read(path)
    if truth.without_iscrowd:
        raise DatasetError(
            f'{ann_key}: {truth.without_iscrowd:,} annotations of {path} have no "iscrowd" of 0 or 1, '
            'which the COCO evaluation reads: add "iscrowd": 0'
        )
    if truth.without_box:
        raise DatasetError(
            f'{ann_key}: {truth.without_box:,} annotations of {path} with "ignore" have no "bbox" or no "area", '
            'which the COCO evaluation reads: add them, or remove these annotations'
        )
    for content in contents:
        lacking = content.image_files.keys() - truth.image_files.keys()
        if lacking:
            raise DatasetError(
                f'{ann_key}={path} lacks {len(lacking):,} of the {len(content.image_files):,} images '
                f'of {content.source}: evaluator and dataloader need the same annotation file'
            )


def annotation_file(evaluator: Any) -> str | None:
    """Return the local annotation file that the config of an evaluator names, if any."""
    path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
    return path if path and '://' not in path else None
