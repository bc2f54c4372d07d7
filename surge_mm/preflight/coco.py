"""Reading and validation of COCO annotation files.

The rules are those of MMDetection's ``CocoDataset`` and of pycocotools. Content on which these fail, or train to a loss
of NaN, is an error here. Boxes that they leave out silently are counted.

Entries are checked column by column with NumPy. Only where a column fails are its entries checked one by one, to name
the one at fault.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_masks

from surge_mm.preflight.annotations import INTEGER_MAX, Annotations, is_number, some
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect


def read_coco(path: str, masks: bool = False) -> Annotations:
    """Read a COCO annotation file.

    Args:
        path (str): the file.
        masks (bool): whether to check masks, too. Defaults to False.

    Returns:
        Annotations: the content.

    Raises:
        DatasetError: if the file is not JSON or not in COCO's format, or an entry lacks what MMDetection reads.
    """
    content = _load(path)
    images = _columns(content['images'], _IMAGE, f'{path}: image')
    if not images['id']:
        raise DatasetError(f'{path} lists no image')
    if len({isinstance(key, str) for key in images['id']}) > 1:
        raise DatasetError(
            f'{path}: some image ids are text and some numbers; the COCO evaluation cannot sort them'
        )
    categories = _columns(content['categories'], _CATEGORY, f'{path}: category')
    names = categories['name']
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetError(f'{path}: categories of the same name: {some(twice)}')

    entries = content.get('annotations', [])
    annotations = _columns(entries, _ANNOTATION, f'{path}: annotation')
    box_images = _indices(annotations['image_id'], images['id'])
    box_labels = _indices(annotations['category_id'], categories['id'])
    for i in np.flatnonzero((box_images < 0) | (box_labels < 0))[:1]:
        raise DatasetError(
            f'{path}: annotation {annotations["id"][i]} refers to image {annotations["image_id"][i]} and category '
            f'{annotations["category_id"][i]}, which are not both in the file'
        )

    sizes = np.array([images['width'], images['height']], dtype=np.float64).T
    flat = list(chain.from_iterable(annotations['bbox']))
    low, lengths = np.hsplit(np.array(flat, dtype=np.float64).reshape(-1, 4), 2)
    area = np.array(annotations['area'], dtype=np.float64)
    inside = np.minimum(low + lengths, sizes[box_images]) > np.maximum(low, 0)
    ignored = np.array([bool(entry.get('ignore')) for entry in entries], dtype=bool)
    empty = ~ignored & ((lengths < 1).any(1) | (area <= 0) | ~inside.all(1))
    found = Annotations(
        path,
        names,
        dict(zip(images['id'], images['file_name'], strict=True)),
        sizes,
        np.hstack([low, low + lengths]),
        box_images,
        box_labels,
        usable=~ignored & ~empty,
        empty=empty,
        without_iscrowd=sum(not isinstance(entry.get('iscrowd'), int) for entry in entries),
    )
    if masks:
        for i in np.flatnonzero(found.usable):
            width, height = (side[box_images[i]] for side in (images['width'], images['height']))
            if defect := _mask_defect(entries[i].get('segmentation'), (height, width)):
                found.without_mask.append(f'annotation {annotations["id"][i]} {defect}')
    return found


def _load(path: str) -> dict[str, Any]:
    if defect := file_defect(path):
        raise DatasetError(f'{path} {defect}')
    collecting = gc.isenabled()
    gc.disable()  # searching millions of new objects for cycles takes as long as reading them
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except RecursionError:
        raise DatasetError(f'{path} is not readable as JSON: it is nested too deeply') from None
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} is not readable as JSON: {error}') from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) for part in ('images', 'categories')
    ):
        raise DatasetError(
            f'{path} is not a COCO annotation file: "images" and "categories" must be lists'
        )
    if not isinstance(content.get('annotations', []), list):
        raise DatasetError(
            f'{path} is not a COCO annotation file: its "annotations" are not a list'
        )
    return content


class _Kind(NamedTuple):
    """What a field may hold: a test of one value, a faster one of a column, and a description."""

    fits: Callable[[Any], bool]
    all_fit: Callable[[list], bool]
    wanted: str


def _are_numbers(values: list) -> bool:
    if not set(map(type, values)) <= {int, float}:
        return False
    try:
        return bool((np.abs(np.array(values, dtype=np.float64)) <= INTEGER_MAX).all())
    except OverflowError:
        return False


def _is_id(value: Any) -> bool:
    return is_number(value) or _is_name(value)


def _are_ids(values: list) -> bool:
    return _are_names(values) or _are_numbers(values)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _are_names(values: list) -> bool:
    return set(map(type, values)) <= {str} and '' not in values


def _is_bbox(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(is_number(part) for part in value)


def _are_bboxes(values: list) -> bool:
    if not set(map(type, values)) <= {list} or not set(map(len, values)) <= {4}:
        return False
    return _are_numbers(list(chain.from_iterable(values)))


_NUMBER = _Kind(is_number, _are_numbers, 'a finite number of usual size')
_ID = _Kind(_is_id, _are_ids, 'a number or a name')
_NAME = _Kind(_is_name, _are_names, 'a name')
_BBOX = _Kind(_is_bbox, _are_bboxes, '[x, y, width, height] of finite numbers of usual size')
_IMAGE = {'id': _ID, 'file_name': _NAME, 'width': _NUMBER, 'height': _NUMBER}
_CATEGORY = {'id': _ID, 'name': _NAME}
_ANNOTATION = {
    'id': _ID,
    'image_id': _ID,
    'category_id': _ID,
    'bbox': _BBOX,
    'area': _NUMBER,
}


def _columns(entries: list, fields: dict[str, _Kind], what: str) -> dict[str, list]:
    """Return the values of each field, in the order of the entries."""
    try:
        columns = {key: [entry[key] for entry in entries] for key in fields}
        whole = all(kind.all_fit(columns[key]) for key, kind in fields.items())
        whole = whole and len(set(columns['id'])) == len(entries)
    except (KeyError, TypeError, IndexError):
        whole = False
    if not whole:
        _check_each(entries, fields, what)
    return columns


def _check_each(entries: list, fields: dict[str, _Kind], what: str) -> None:
    seen = set()
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or 'id' not in entry:
            raise DatasetError(f'{what} (number {number} of the list) has no "id"')
        if not _is_id(entry['id']):
            raise DatasetError(
                f'{what} (number {number} of the list) has id={_short(entry["id"])}, not {_ID.wanted}'
            )
        for key, kind in fields.items():
            if key not in entry:
                raise DatasetError(f'{what} (id {entry["id"]}) has no "{key}"')
            if not kind.fits(entry[key]):
                raise DatasetError(
                    f'{what} (id {entry["id"]}) has {key}={_short(entry[key])}, not {kind.wanted}'
                )
        if entry['id'] in seen:
            raise DatasetError(f'{what} (id {entry["id"]}) has the id of another one')
        seen.add(entry['id'])


def _indices(keys: list, ids: list) -> np.ndarray:
    """Return the place of each key in ``ids``, -1 where it is not among them."""
    places = {key: i for i, key in enumerate(ids)}
    return np.array([places.get(key, -1) for key in keys], dtype=np.int64)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def _mask_defect(mask: Any, size: tuple[float, float]) -> str | None:
    """Return why MMDetection cannot load a mask of an image of (height, width), or None."""
    if not mask:
        return 'has no "segmentation"'
    if isinstance(mask, list):
        parts = set(map(type, mask)) == {list} and (
            _are_numbers(flat := list(chain.from_iterable(mask))) or all(map(is_number, flat))
        )
        return None if parts else 'has a segmentation that is not a list of polygons'
    if not isinstance(mask, dict) or not isinstance(mask.get('counts'), list | str):
        return 'has a segmentation that is neither polygons nor run lengths'
    if mask.get('size') != list(size):
        return f'has a segmentation of size {_short(mask.get("size"))}, not {list(size)}'
    try:
        runs = mask['counts'] if isinstance(mask['counts'], list) else _run_lengths(mask['counts'])
        if sum(runs) == size[0] * size[1] and min(runs) >= 0:
            coco_masks.decode(coco_masks.frPyObjects({**mask, 'counts': runs}, *mask['size']))
            return None
    except Exception:  # pycocotools raises many kinds for broken run lengths
        pass
    return 'has a segmentation of malformed run lengths'


def _run_lengths(text: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    A character has 5 bits of a number. From the third on, numbers are differences to the last but one. pycocotools
    itself leaves pixels undefined where the run lengths are too few for the image.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in text.encode():
        bits = byte - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
