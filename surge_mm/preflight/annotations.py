"""The content of annotation files, and its text in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOAT32_MAX = 3.4028234e38
INTEGER_MAX = 2**62  # the sum of two fits into int64


@dataclass
class Annotations:
    """The content of one annotation file or split, with N images and M boxes.

    Attributes:
        source (str): the file.
        names (list[str]): names of the categories; COCO's in the order of the file.
        image_files (dict): file name relative to the image folder by image id, in the order of the images.
        sizes (np.ndarray): annotated width and height, shape (N, 2), float64. NaN where there is none.
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, shape (M, 4), float64.
        box_images (np.ndarray): index of the image of each box, shape (M,), int64.
        box_labels (np.ndarray): index of the name of each box in ``names``, shape (M,), int64.
        usable (np.ndarray): boxes that the host trains on, shape (M,), bool.
        empty (np.ndarray): boxes without area or outside of the annotated image, shape (M,), bool.
        without_iscrowd (int): number of boxes that lack the key that COCO's evaluation reads.
        without_mask (list[str]): usable boxes without a mask, with the reason.
        repeated (list[str]): images that are listed more than once.
    """

    source: str
    names: list[str]
    image_files: dict[Any, str]
    sizes: np.ndarray
    boxes: np.ndarray
    box_images: np.ndarray
    box_labels: np.ndarray
    usable: np.ndarray
    empty: np.ndarray
    without_iscrowd: int = 0
    without_mask: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """The number of usable boxes by name, for names that have any."""
        counts = np.bincount(self.box_labels[self.usable], minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}

    def describe(self, chosen: np.ndarray) -> list[str]:
        """Return image file and name of the boxes that ``chosen``, shape (M,), bool, selects."""
        files = list(self.image_files.values())
        return [
            f'{files[self.box_images[i]]} {self.names[self.box_labels[i]]}'
            for i in np.flatnonzero(chosen)
        ]

    def images_with(self, classes: Sequence[str]) -> np.ndarray:
        """Return which images have a box of these classes, usable or not, shape (N,), bool."""
        listed = set(classes)
        chosen = np.array([name in listed for name in self.names], dtype=bool)
        found = np.zeros(len(self.image_files), dtype=bool)
        found[self.box_images[chosen[self.box_labels]]] = True
        return found

    def clipped(self, sizes: np.ndarray) -> np.ndarray:
        """Return which usable boxes have less than a pixel inside their image.

        ``Resize`` may clip such a box to nothing.

        Args:
            sizes (np.ndarray): width and height of the images, shape (N, 2). NaN where unknown.

        Returns:
            np.ndarray: shape (M,), bool.
        """
        with np.errstate(over='ignore'):
            low, high = np.hsplit(self.boxes.astype(np.float32), 2)
            limits = sizes.astype(np.float32)[self.box_images]
        inside = np.minimum(high, limits) - np.maximum(low, 0)
        return self.usable & (inside < 1).any(1)


def some(items: Iterable[str], separator: str = ', ', shown: int = 5) -> str:
    """Join the first items and count the others. Characters that cannot be printed are escaped.

    Args:
        items (Iterable[str]): texts such as file names.
        separator (str): text between two items. Defaults to a comma.
        shown (int): number of items that are shown. Defaults to 5.

    Returns:
        str: such as ``'a, b, and 3 more'``.
    """
    items = list(items)
    first = [''.join(c if c.isprintable() else ascii(c)[1:-1] for c in x) for x in items[:shown]]
    rest = f'{separator}and {len(items) - shown:,} more' if len(items) > shown else ''
    return separator.join(first) + rest


def some_names(items: Iterable[str]) -> str:
    """Join the first twenty items as :func:`some` does."""
    return some(items, shown=20)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that PyTorch can hold; JSON and Python allow others."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= (INTEGER_MAX if isinstance(value, int) else FLOAT32_MAX)
