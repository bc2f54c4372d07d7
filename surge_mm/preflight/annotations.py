"""What the annotations of a dataset say, and how they fit its class list."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from surge_mm.utils.errors import DatasetError

Placed = tuple[str, float, float, float, float]
FLOAT32_MAX = 3.4028234e38
INTEGER_MAX = 2**62  # the sum of two still fits PyTorch's integers


@dataclass
class Annotations:
    """The content of one annotation file or split.

    Attributes:
        source (str): The file.
        names (list[str]): Names of the categories; COCO's in the order of the file.
        boxes (Counter): Number of usable boxes by name.
        image_files (dict): File name relative to the image folder, by image id.
        sizes (dict): Width and height as annotated, by image id.
        placed (dict): Name, x1, y1, x2, y2 of the usable boxes, in pixels, by image id.
        labelled (dict): The names of all boxes, usable or not, by image id.
        empty_boxes (list[str]): Image and name of each box that is unusable by itself.
        without_iscrowd (int): Boxes that lack the key which COCO's evaluation reads.
        without_mask (list[str]): Usable boxes without a mask, and why.
        repeated (list[str]): Images that are listed more than once.
    """

    source: str
    names: list[str] = field(default_factory=list)
    boxes: Counter[str] = field(default_factory=Counter)
    image_files: dict[Any, str] = field(default_factory=dict)
    sizes: dict[Any, tuple[float, float]] = field(default_factory=dict)
    placed: dict[Any, list[Placed]] = field(default_factory=dict)
    labelled: dict[Any, set[str]] = field(default_factory=dict)
    empty_boxes: list[str] = field(default_factory=list)
    without_iscrowd: int = 0
    without_mask: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def some(items: Iterable[str], separator: str = ', ', shown: int = 5) -> str:
    """The first few items and the number of the rest; what cannot be printed is escaped."""
    items = [''.join(c if c.isprintable() else ascii(c)[1:-1] for c in item) for item in items]
    rest = f'{separator}and {len(items) - shown:,} more' if len(items) > shown else ''
    return separator.join(items[:shown]) + rest


def some_names(items: Iterable[str]) -> str:
    return some(items, shown=20)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number for PyTorch: not every one of JSON and Python is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= (INTEGER_MAX if isinstance(value, int) else FLOAT32_MAX)


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
