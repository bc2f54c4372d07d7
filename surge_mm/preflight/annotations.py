"""The content of annotation files, and its text in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

SHOWN = 10


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
        left_out (np.ndarray): boxes that the host leaves out, shape (M,), bool.
        ignored (np.ndarray): other boxes that the host does not train on, shape (M,), bool: COCO's ``iscrowd``, VOC's
            ``difficult`` and those below ``bbox_min_size`` of ``filter_cfg``.
        without_mask (np.ndarray): boxes without a mask, shape (M,), bool.
        orphans (int): number of COCO's annotations of an image or category that is not in the file. They are no boxes.
        without_iscrowd (int): number of boxes that lack the key that COCO's evaluation reads.
        without_box (int): number of boxes that the host leaves out unread, and that lack the bbox or area that COCO's
            evaluation reads.
        run_lengths (dict): mask by index of the box, where MMDetection decodes it from run lengths.
    """

    source: str
    names: list[str]
    image_files: dict[Any, str]
    sizes: np.ndarray
    boxes: np.ndarray
    box_images: np.ndarray
    box_labels: np.ndarray
    left_out: np.ndarray
    ignored: np.ndarray
    without_mask: np.ndarray
    orphans: int = 0
    without_iscrowd: int = 0
    without_box: int = 0
    run_lengths: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The number of boxes to train on by name, for names that have any."""
        return self._count(~self.left_out & ~self.ignored)

    @property
    def ignored_counts(self) -> dict[str, int]:
        """The number of ignored boxes by name, for names that have any."""
        return self._count(self.ignored)

    def _count(self, chosen: np.ndarray) -> dict[str, int]:
        counts = np.bincount(self.box_labels[chosen], minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}

    @property
    def degenerate(self) -> np.ndarray:
        """Boxes with less than a pixel inside their image, shape (M,), bool. Losses may become NaN."""
        low, high = np.hsplit(self.boxes.astype(np.float32), 2)
        limits = self.sizes.astype(np.float32)[self.box_images]
        inside = np.fmin(high, limits) - np.maximum(low, 0)
        return ~self.left_out & (inside < 1).any(1)

    def of_images(self, images: np.ndarray) -> Annotations:
        """Return the content of the images with these indices, shape (K,), int64, in increasing order. Names stay."""
        places = np.full(len(self.image_files), -1)
        places[images] = np.arange(len(images))
        boxes = np.flatnonzero(places[self.box_images] >= 0)
        ids = list(self.image_files)
        return replace(
            self,
            image_files={ids[i]: self.image_files[ids[i]] for i in images},
            sizes=self.sizes[images],
            boxes=self.boxes[boxes],
            box_images=places[self.box_images[boxes]],
            box_labels=self.box_labels[boxes],
            left_out=self.left_out[boxes],
            ignored=self.ignored[boxes],
            without_mask=self.without_mask[boxes],
            run_lengths={
                new: self.run_lengths[old]
                for new, old in enumerate(boxes.tolist())
                if old in self.run_lengths
            },
        )

    def are_of(self, classes: Sequence[str]) -> np.ndarray:
        """Return which boxes have a name of a class list, shape (M,), bool."""
        return np.array([name in classes for name in self.names], dtype=bool)[self.box_labels]

    def select(self, indices: Iterable[int]) -> np.ndarray:
        """Return which boxes are among ``indices`` and are not left out, shape (M,), bool."""
        return ~self.left_out & np.isin(np.arange(len(self.left_out)), list(indices))

    def describe(self, chosen: np.ndarray) -> str:
        """Return image file and name of the boxes that ``chosen``, shape (M,), bool, selects."""
        files = list(self.image_files.values())
        return some(
            f'{files[self.box_images[i]]} {self.names[self.box_labels[i]]}'
            for i in np.flatnonzero(chosen)
        )


def some(items: Iterable[str], separator: str = ', ') -> str:
    """Join the first ten items and count the others. Characters that cannot be printed are escaped.

    Args:
        items (Iterable[str]): texts such as file names.
        separator (str): text between two items. Defaults to a comma.

    Returns:
        str: such as ``'a, b, and 3 more'``.
    """
    items = list(items)
    first = [''.join(c if c.isprintable() else ascii(c)[1:-1] for c in x) for x in items[:SHOWN]]
    rest = f'{separator}and {len(items) - SHOWN:,} more' if len(items) > SHOWN else ''
    return separator.join(first) + rest
