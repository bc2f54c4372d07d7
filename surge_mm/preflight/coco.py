"""What a COCO annotation file says, and what is wrong with it.

The rules are those of MMDetection's ``CocoDataset`` and of pycocotools: what these would stumble over, or would train
on to a loss of NaN, is an error here, and what they leave out silently is counted.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from pycocotools import mask as coco_masks

from surge_mm.preflight.annotations import Annotations, is_number, some
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect


def read_coco(path: str, masks: bool = False) -> Annotations:
    """Reads a COCO annotation file.

    Args:
        path (str): The file.
        masks (bool): Whether masks are wanted, too. Defaults to False.

    Raises:
        DatasetError: If it is no JSON, no COCO, or an entry lacks what MMDetection reads.
    """
    content = _load(path)
    found = Annotations(path)
    images = _by_id(content['images'], _IMAGE, f'{path}: image')
    if not images:
        raise DatasetError(f'{path} lists no image')
    kinds = {isinstance(key, str) for key in images}
    if len(kinds) > 1:
        raise DatasetError(
            f'{path}: some image ids are text and some numbers; the COCO evaluation cannot sort them'
        )
    found.image_files = {key: image['file_name'] for key, image in images.items()}
    found.sizes = {key: (image['width'], image['height']) for key, image in images.items()}
    categories = _by_id(content['categories'], _CATEGORY, f'{path}: category')
    found.names = [category['name'] for category in categories.values()]
    twice = [name for name, count in Counter(found.names).items() if count > 1]
    if twice:
        raise DatasetError(f'{path}: categories of the same name: {some(twice)}')

    annotations = _by_id(content.get('annotations', []), _ANNOTATION, f'{path}: annotation')
    for key, box in annotations.items():
        if box['image_id'] not in images or box['category_id'] not in categories:
            raise DatasetError(
                f'{path}: annotation {key} refers to image {box["image_id"]} and category '
                f'{box["category_id"]}, which are not both in the file'
            )
        image = images[box['image_id']]
        name = categories[box['category_id']]['name']
        found.labelled.setdefault(box['image_id'], set()).add(name)
        found.without_iscrowd += not isinstance(box.get('iscrowd'), int)
        if box.get('ignore'):
            continue
        x, y, width, height = box['bbox']
        inside = min(x + width, image['width']) > max(x, 0) and (
            min(y + height, image['height']) > max(y, 0)
        )
        if width < 1 or height < 1 or box['area'] <= 0 or not inside:
            found.empty_boxes.append(f'{image["file_name"]} {name}')
            continue
        found.boxes[name] += 1
        place = (name, x, y, x + width, y + height)
        found.placed.setdefault(box['image_id'], []).append(place)
        if masks:
            size = image['height'], image['width']
            if defect := _mask_defect(box.get('segmentation'), size):
                found.without_mask.append(f'annotation {key} {defect}')
    return found


def _load(path: str) -> dict[str, Any]:
    if defect := file_defect(path):
        raise DatasetError(f'{path} {defect}')
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except RecursionError:
        raise DatasetError(f'{path} is not readable as JSON: it is nested too deeply') from None
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} is not readable as JSON: {error}') from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) for part in ('images', 'categories')
    ):
        raise DatasetError(f'{path} is no COCO annotation file: it needs "images" and "categories"')
    if not isinstance(content.get('annotations', []), list):
        raise DatasetError(f'{path} is no COCO annotation file: its "annotations" are no list')
    return content


def _is_id(value: Any) -> bool:
    return is_number(value) or (isinstance(value, str) and value != '')


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ''


def _is_bbox(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(is_number(part) for part in value)


_Fields = dict[str, tuple[Callable[[Any], bool], str]]
_NUMBER = (is_number, 'a finite number of usual size')
_ID = (_is_id, 'a number or a name')
_NAME = (_is_name, 'a name')
_IMAGE: _Fields = {'file_name': _NAME, 'width': _NUMBER, 'height': _NUMBER}
_CATEGORY: _Fields = {'name': _NAME}
_ANNOTATION: _Fields = {
    'image_id': _ID,
    'category_id': _ID,
    'bbox': (_is_bbox, '[x, y, width, height] of finite numbers of usual size'),
    'area': _NUMBER,
}


def _by_id(entries: list, fields: _Fields, what: str) -> dict[Any, dict]:
    by_id: dict[Any, dict] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or 'id' not in entry:
            raise DatasetError(f'{what} (number {number} of the list) has no "id"')
        if not _is_id(entry['id']):
            raise DatasetError(
                f'{what} (number {number} of the list) has id={_short(entry["id"])}, not {_ID[1]}'
            )
        for key, (fits, wanted) in fields.items():
            if key not in entry:
                raise DatasetError(f'{what} (id {entry["id"]}) has no "{key}"')
            if not fits(entry[key]):
                raise DatasetError(
                    f'{what} (id {entry["id"]}) has {key}={_short(entry[key])}, not {wanted}'
                )
        if entry['id'] in by_id:
            raise DatasetError(f'{what} (id {entry["id"]}) has the id of another one')
        by_id[entry['id']] = entry
    return by_id


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


def _mask_defect(mask: Any, size: tuple[float, float]) -> str | None:
    """What keeps MMDetection from loading a mask of an image of (height, width)."""
    if not mask:
        return 'has no "segmentation"'
    if isinstance(mask, list):
        parts = all(isinstance(part, list) and all(map(is_number, part)) for part in mask)
        return None if parts else 'has a segmentation that is no list of polygons'
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
    """The run lengths in COCO's compressed form: 5 bits a character, from the third on less the last but one.

    pycocotools itself leaves pixels undefined when they are too few for the image.
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
