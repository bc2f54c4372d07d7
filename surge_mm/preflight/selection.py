"""The part of an annotation file that a dataset uses, by ``filter_cfg`` and ``indices``."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from surge_mm.preflight.annotations import Annotations
from surge_mm.utils.errors import DatasetError

T = TypeVar('T')


def select_images(key: str, dataset: Any, content: Annotations) -> Annotations:
    """Return the content of the images that a dataset of MMDetection uses.

    A dataset with a ``filter_data`` of its own is taken to use all.

    Args:
        key (str): config key of the dataset.
        dataset (BaseDataset): the dataset.
        content (Annotations): content of its annotation file.

    Returns:
        Annotations: the content of these images.

    Raises:
        DatasetError: if ``filter_cfg`` or ``indices`` leaves no image, or ``indices`` has one that does not exist.
    """
    if dataset.filter_data.__qualname__ not in (
        'CocoDataset.filter_data',
        'XMLDataset.filter_data',
    ):
        return content
    images = np.arange(len(content.image_files))
    if dataset.filter_cfg and not dataset.test_mode:
        small = content.sizes.min(1) < dataset.filter_cfg.get('min_size', 0)
        empty = np.zeros_like(small)
        if dataset.filter_cfg.get('filter_empty_gt', False):
            empty = ~np.isin(
                images, content.box_images[content.are_of(dataset.metainfo['classes'])]
            )
        images = images[~small & ~empty]
        if not images.size:
            raise DatasetError(
                f'{key}.filter_cfg={dataset.filter_cfg} leaves out all {len(small):,} images of {content.source}: '
                f'{small.sum():,} have a side below min_size, {empty.sum():,} have no annotation of the classes. '
                'Correct filter_cfg or the annotations'
            )
    chosen = select(key, dataset, images.tolist(), f'{len(images):,} images')
    return content.of_images(np.unique(chosen))


def select(key: str, dataset: Any, items: list[T], total: str) -> list[T]:
    """Return the items that ``indices`` of a dataset selects.

    Args:
        key (str): config key of the dataset.
        dataset (BaseDataset): the dataset.
        items (list): its images or rows.
        total (str): their number in words.

    Returns:
        list: the items.

    Raises:
        DatasetError: if there is none, or one that does not exist.
    """
    indices = dataset._indices
    if indices is None:
        return items
    dataset.data_list = items
    try:
        items = dataset._get_unserialized_subset(indices)
    except (IndexError, TypeError) as error:
        raise DatasetError(f'{key}.indices: {error}. There are {total}') from error
    if not items:
        raise DatasetError(f'{key}.indices={indices!r} selects none of {total}')
    return items
