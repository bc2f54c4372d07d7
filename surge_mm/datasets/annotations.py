"""What annotation files of COCO and VOC say, and what is wrong with them.

The rules are those of MMDetection's ``CocoDataset`` and ``XMLDataset``: what these would stumble over
is an error here, and what they leave out silently is counted.
"""

import json
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from surge_mm.datasets.files import check_each
from surge_mm.errors import UsageError


class DatasetError(UsageError):
    """Data that a config asks for is not there, is broken, or does not fit the config."""


@dataclass
class Annotations:
    """The content of one annotation file or split.

    Attributes:
        source (str): The file.
        names (list[str]): Names of the categories; COCO's in the order of the file.
        boxes (Counter): Number of usable boxes by name.
        image_files (dict): File name relative to the image folder, by image id.
        empty_boxes (list[str]): Image and name of each box without width or height.
        without_iscrowd (int): Boxes that lack the key which COCO's evaluation reads.
    """

    source: str
    names: list[str] = field(default_factory=list)
    boxes: Counter[str] = field(default_factory=Counter)
    image_files: dict[Any, str] = field(default_factory=dict)
    empty_boxes: list[str] = field(default_factory=list)
    without_iscrowd: int = 0


def some(items: Iterable[str], separator: str = ', ', shown: int = 5) -> str:
    """The first few items and the number of the rest."""
    items = list(items)
    rest = f'{separator}and {len(items) - shown:,} more' if len(items) > shown else ''
    return separator.join(items[:shown]) + rest


def some_names(items: Iterable[str]) -> str:
    return some(items, shown=20)


def read_coco(path: str) -> Annotations:
    """Reads a COCO annotation file.

    Raises:
        DatasetError: If it is no JSON, no COCO, or an entry lacks what MMDetection reads.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} is not readable as JSON: {error}') from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), list) for part in ('images', 'categories')
    ):
        raise DatasetError(f'{path} is no COCO annotation file: it needs "images" and "categories"')

    found = Annotations(path)
    images = _by_id(content['images'], ('file_name', 'width', 'height'), f'{path}: an image')
    found.image_files = {key: image['file_name'] for key, image in images.items()}
    categories = _by_id(content['categories'], ('name',), f'{path}: a category')
    found.names = [category['name'] for category in categories.values()]
    twice = [name for name, count in Counter(found.names).items() if count > 1]
    if twice:
        raise DatasetError(f'{path}: categories of the same name: {some(twice)}')

    required = ('image_id', 'category_id', 'bbox', 'area')
    for key, box in _by_id(content.get('annotations', []), required, f'{path}: annotation').items():
        if box['image_id'] not in images or box['category_id'] not in categories:
            raise DatasetError(
                f'{path}: annotation {key} refers to image {box["image_id"]} and category '
                f'{box["category_id"]}, which are not both in the file'
            )
        try:
            x, y, width, height = (float(value) for value in box['bbox'])
        except (TypeError, ValueError):
            raise DatasetError(
                f'{path}: annotation {key} has bbox={box["bbox"]!r}, not [x, y, width, height]'
            ) from None
        found.without_iscrowd += 'iscrowd' not in box
        if box.get('ignore'):
            continue
        name = categories[box['category_id']]['name']
        image = images[box['image_id']]
        inside = min(x + width, image['width']) > max(x, 0) and (
            min(y + height, image['height']) > max(y, 0)
        )
        if width < 1 or height < 1 or box['area'] <= 0 or not inside:
            found.empty_boxes.append(f'{image["file_name"]} {name}')
        else:
            found.boxes[name] += 1
    return found


def _by_id(entries: list, required: tuple[str, ...], what: str) -> dict[Any, dict]:
    by_id = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or 'id' not in entry:
            raise DatasetError(f'{what} (number {number} of the list) has no "id"')
        for key in required:
            if key not in entry:
                raise DatasetError(f'{what} (id {entry["id"]}) has no "{key}"')
        if entry['id'] in by_id:
            raise DatasetError(f'{what} (id {entry["id"]}) has the id of another one')
        by_id[entry['id']] = entry
    return by_id


def read_voc(split_file: str, annotation_folder: str, image_subfolder: str) -> Annotations:
    """Reads the XML files of a VOC split.

    Args:
        split_file (str): Text file with one image name in a line.
        annotation_folder (str): Folder of the XML files.
        image_subfolder (str): Folder of the images, kept as the start of ``image_files``.

    Raises:
        DatasetError: If the split is empty or XML files are missing or malformed.
    """
    with open(split_file, encoding='utf-8') as file:
        names = [line.rstrip('\r\n') for line in file]
    if not names:
        raise DatasetError(f'{split_file} lists no image')
    found = Annotations(split_file)
    found.image_files = {name: os.path.join(image_subfolder, f'{name}.jpg') for name in names}
    paths = [os.path.join(annotation_folder, f'{name}.xml') for name in names]
    defects = []
    for path, result in check_each(_read_xml, paths, 'annotations'):
        if isinstance(result, str):
            defects.append(f'{path} {result}')
            continue
        for name, width, height in result:
            if width <= 0 or height <= 0:
                image = os.path.splitext(os.path.basename(path))[0]
                found.empty_boxes.append(f'{image} {name}')
            else:
                found.boxes[name] += 1
    if defects:
        raise DatasetError(
            f'{len(defects):,} of the {len(paths):,} annotation files that {split_file} asks for '
            'cannot be used:\n  ' + some(defects, '\n  ')
        )
    found.names = sorted(found.boxes)
    return found


def _read_xml(path: str) -> list[tuple[str, int, int]] | str:
    """Name, width and height of each object, or what is wrong with the file."""
    try:
        root = ET.parse(path).getroot()
    except FileNotFoundError:
        return 'is missing'
    except (OSError, ET.ParseError) as error:
        return f'is malformed ({error})'
    objects = []
    where = 'size'
    try:
        if (size := root.find('size')) is not None:
            int(size.findtext('width', '')), int(size.findtext('height', ''))
        for number, item in enumerate(root.findall('object')):
            where = f'object {number}'
            name = item.findtext('name')
            if not name:
                return f'is malformed ({where} has no name)'
            int(item.findtext('difficult', '0'))
            x1, y1, x2, y2 = (
                int(float(item.findtext(f'bndbox/{key}', '')))
                for key in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            objects.append((name, x2 - x1, y2 - y1))
    except ValueError as error:
        return f'is malformed ({where}: {error})'
    return objects


def match_classes(key: str, classes: Any, content: Annotations, training: bool) -> list[str]:
    """Compares a dataset's class list with its annotations: a summary and warnings.

    Raises:
        DatasetError: If they have no name in common, or there is nothing to train on.
    """
    if not classes or isinstance(classes, str):
        raise DatasetError(
            f"{key}.metainfo.classes={classes!r} is no list of names: write classes=('name', ...)"
        )
    found = content.boxes or dict.fromkeys(content.names, 0)
    if found and not set(found) & set(classes):
        raise DatasetError(
            f'{key}.metainfo.classes matches no annotation of {content.source}\n'
            f'  the class list has: {some_names(classes)}\n'
            f'  the annotations have: {some_names(found)}\n'
            f'  way out: metainfo=dict(classes=(...)) in the dataset, the names as annotated'
        )
    if training and not content.boxes:
        raise DatasetError(f'{key}.ann_file has no annotation to train on: {content.source}')
    boxes = sum(content.boxes[name] for name in classes)
    lines = [
        f'{key}: {len(content.image_files):,} images, {boxes:,} boxes of '
        f'{sum(content.boxes[name] > 0 for name in classes)} classes'
    ]
    missing = [name for name in classes if not content.boxes[name]]
    if missing and content.boxes:
        lines.append(
            f'warning: {key}: {len(missing)} of {len(classes)} classes have no box: '
            f'{some_names(missing)}'
        )
    others = [f'{name} ({n:,})' for name, n in content.boxes.items() if name not in classes]
    if others:
        left_out = sum(content.boxes.values()) - boxes
        lines.append(
            f'warning: {key}: {left_out:,} boxes of names outside the class list are left out: '
            f'{some_names(others)}'
        )
    return lines


def coco_order(key: str, classes: Sequence[str], content: Annotations) -> list[str]:
    """``CocoDataset`` numbers labels in the order of the file's categories, whatever the list says."""
    order = [name for name in content.names if name in classes]
    if not order or order == list(classes):
        return []
    return [
        f'warning: {key}: MMDetection numbers the classes as {content.source} does ({some_names(order)}), '
        f'not as metainfo.classes does ({some_names(classes)}): train and val must agree in this'
    ]
