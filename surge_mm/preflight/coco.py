"""Reading and validation of COCO annotation files.

The rules are those of MMDetection's ``CocoDataset`` and of pycocotools. Content on which these fail, or train to a loss
of NaN, is an error here. Boxes that they leave out silently are counted.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from surge_mm.preflight.annotations import Annotations
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect

LARGEST = 2**62
"""Largest number; the sum of two fits into int64."""


def read_coco(path: str) -> Annotations:
    """Read a COCO annotation file.

    Args:
        path (str): the file.

    Returns:
        Annotations: the content.

    Raises:
        DatasetError: if the file is not JSON or not in COCO's format, or an entry lacks what MMDetection reads.
    """
    content = _load(path)
    images, categories, annotations = (
        _columns(path, part, content[part], fields) for part, fields in _FIELDS.items()
    )
    if not images['id']:
        raise DatasetError(f'{path} lists no image')
    box_images = _indices(annotations['image_id'], images['id'])
    box_labels = _indices(annotations['category_id'], categories['id'])
    listed = (box_images >= 0) & (box_labels >= 0)
    if len(listed) and not listed.any():
        raise DatasetError(
            f'{path}: no annotation refers to an image and a category of the file. The first refers to image '
            f'{annotations["image_id"][0]} and category {annotations["category_id"][0]}'
        )

    entries = content['annotations']
    ignore = np.array([bool(entry.get('ignore')) for entry in entries], dtype=bool)
    read = [
        {**entry, **_NO_BOX} if unread else entry
        for entry, unread in zip(entries, ignore | (box_images < 0), strict=True)
    ]
    columns = _columns(path, 'annotations', read, _BOX_FIELDS)
    sizes = np.array([images['width'], images['height']], dtype=np.float64).T
    box_images, box_labels = box_images[listed], box_labels[listed]
    boxes = np.array(columns['bbox'], dtype=np.float64).reshape(-1, 4)[listed]
    low, lengths = np.hsplit(boxes, 2)
    area = np.array(columns['area'], dtype=np.float64)[listed]
    inside = np.minimum(low + lengths, sizes[box_images]) > np.maximum(low, 0)
    left_out = (lengths < 1).any(1) | (area <= 0) | ~inside.all(1)
    without_box = [i for i in np.flatnonzero(listed & ignore) if not _has_box(entries[i])]
    entries = [entries[i] for i in np.flatnonzero(listed)]
    crowds = np.array([bool(entry.get('iscrowd')) for entry in entries], dtype=bool)
    return Annotations(
        path,
        categories['name'],
        dict(zip(images['id'], images['file_name'], strict=True)),
        sizes,
        np.hstack([low, low + lengths]),
        box_images,
        box_labels,
        left_out=left_out,
        ignored=crowds & ~left_out,
        without_mask=np.array([not entry.get('segmentation') for entry in entries], dtype=bool),
        orphans=int((~listed).sum()),
        without_iscrowd=sum(not isinstance(entry.get('iscrowd'), int) for entry in entries),
        without_box=len(without_box),
        run_lengths={
            i: entry['segmentation']
            for i, entry in enumerate(entries)
            if _is_decoded(entry.get('segmentation'))
        },
    )


def _is_decoded(mask: Any) -> bool:
    """Return whether MMDetection reads a mask as run lengths. It leaves out the boxes of other dicts."""
    runs = isinstance(mask, dict) and isinstance(mask.get('counts'), (list, str))
    return runs and mask.get('size') is not None


def fills_its_size(mask: dict[str, Any]) -> bool:
    """Return whether the run lengths of a mask add up to its size. pycocotools leaves further pixels undefined.

    Args:
        mask (dict): ``size``, the height and width, and ``counts``, a list or COCO's compressed text.
    """
    try:
        (height, width), counts = mask['size'], mask['counts']
        runs = np.array(counts) if isinstance(counts, list) else _run_lengths(counts)
        return bool(runs.sum() == height * width and (runs >= 0).all())
    except (TypeError, ValueError, IndexError):
        return False


def _run_lengths(text: str) -> np.ndarray:
    """Decode COCO's compressed run lengths: 5 bits a character, and differences to the last but one from the third."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)  # characters that end a number
    if last[-1] != len(codes) - 1:
        raise ValueError('the last number has no end')
    first = np.append(0, last[:-1] + 1)
    shift = 5 * (np.arange(len(codes)) - np.repeat(first, last - first + 1))
    runs = np.add.reduceat((codes & 31) << shift, first)
    runs -= np.where(codes[last] & 16, 32 << shift[last], 0)  # negative numbers
    for start in (1, 2):
        runs[start::2] = runs[start::2].cumsum()
    return runs


def _load(path: str) -> dict[str, list]:
    if defect := file_defect(path):
        raise DatasetError(f'{path} {defect}')
    gc.disable()  # searching millions of new objects for cycles takes as long as reading them
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f'{path} is not readable as JSON: {error}') from None
    finally:
        gc.enable()
    if isinstance(content, dict):
        content.setdefault('annotations', [])
        if all(isinstance(content.get(part), list) for part in _FIELDS):
            return content
    raise DatasetError(
        f'{path} is not a COCO annotation file: it needs the lists {", ".join(_FIELDS)}'
    )


def _are_numbers(values: list) -> bool:
    return set(map(type, values)) <= {int, float} and bool(
        (np.abs(np.array(values, dtype=np.float64)) <= LARGEST).all()
    )


def _are_names(values: list) -> bool:
    return set(map(type, values)) <= {str} and '' not in values


def _are_ids(values: list) -> bool:
    return _are_names(values) or _are_numbers(values)


def _are_boxes(values: list) -> bool:
    lists = set(map(type, values)) <= {list} and set(map(len, values)) <= {4}
    return lists and _are_numbers(list(chain.from_iterable(values)))


_WANTED: dict[Callable[[list], bool], str] = {
    _are_numbers: 'a finite number of usual size',
    _are_names: 'a name',
    _are_ids: 'a number or a name',
    _are_boxes: '[x, y, width, height] of finite numbers of usual size',
}
_FIELDS = {
    'images': {
        'id': _are_ids,
        'file_name': _are_names,
        'width': _are_numbers,
        'height': _are_numbers,
    },
    'categories': {'id': _are_ids, 'name': _are_names},
    'annotations': {
        'id': _are_ids,
        'image_id': _are_ids,
        'category_id': _are_ids,
    },
}
_BOX_FIELDS = {'bbox': _are_boxes, 'area': _are_numbers}
_NO_BOX = {'bbox': [0, 0, 0, 0], 'area': 0}  # in place of those that MMDetection does not read


def _columns(
    path: str, part: str, entries: list, fields: Mapping[str, Callable[[list], bool]]
) -> dict[str, list]:
    """Return the values of each field, in the order of the entries."""
    for key, test in fields.items():
        if not _fit(entries, key, test):
            bad = next((i for i, entry in enumerate(entries) if not _fit([entry], key, test)), None)
            if bad is None:
                raise DatasetError(f'{path}: "{key}" is text in some {part} and a number in others')
            raise DatasetError(
                f'{path}: {part}[{bad}] needs "{key}", {_WANTED[test]}, but is '
                f'{json.dumps(entries[bad]):.200}'
            )
    columns = {key: [entry[key] for entry in entries] for key in fields}
    for key in columns.keys() & {'id', 'name'}:
        for value, count in Counter(columns[key]).most_common(1):
            if count > 1:
                raise DatasetError(f'{path}: {count} {part} have the same {key}: {value!r}')
    return columns


def _fit(entries: list, key: str, test: Callable[[list], bool]) -> bool:
    try:
        return test([entry[key] for entry in entries])
    except (KeyError, TypeError, IndexError, OverflowError):
        return False


def _has_box(entry: dict[str, Any]) -> bool:
    return all(_fit([entry], key, test) for key, test in _BOX_FIELDS.items())


def _indices(keys: list[Any], ids: list[Any]) -> np.ndarray:
    """Return the place of each key in ``ids``, -1 where it is not among them."""
    places = {key: i for i, key in enumerate(ids)}
    return np.array([places.get(key, -1) for key in keys], dtype=np.int64)
