"""Consistency of boxes and masks with their images and with the pipeline that loads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmengine.config import ConfigDict

from surge_mm.preflight.annotations import Annotations
from surge_mm.preflight.coco import fills_its_size
from surge_mm.preflight.pipelines import advise_filter, step_of
from surge_mm.utils.errors import DatasetError


def check_boxes(
    key: str, config: ConfigDict, content: Annotations, classes: Sequence[str]
) -> list[str]:
    """Check the masks that a pipeline loads, and the boxes of the classes of a dataset.

    Args:
        key (str): config key of the dataset.
        config (ConfigDict): its config.
        content (Annotations): content of its annotation file.
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset. MMDetection leaves other classes out.

    Returns:
        list[str]: warnings.

    Raises:
        DatasetError: if the pipeline loads masks, and some are missing or do not fill their size.
    """
    of_others = ~content.are_of(classes)
    left_out = content.left_out & ~of_others
    content = replace(content, left_out=content.left_out | of_others)
    other_size = content.select([])
    load = step_of(config, 'LoadAnnotations')
    if load.get('with_mask'):
        masks = content.run_lengths if load.get('poly2mask', True) else {}
        without_mask = content.without_mask & ~content.left_out
        unfilled = content.select(i for i, mask in masks.items() if not fills_its_size(mask))
        for chosen, text in (
            (without_mask, 'have no "segmentation"'),
            (unfilled, 'have run lengths that do not fill the "size" of their mask'),
        ):
            if chosen.any():
                raise DatasetError(
                    f'{key}.pipeline loads masks, but {chosen.sum():,} boxes of {content.source} {text}: '
                    f'{content.describe(chosen)}'
                )
        sizes = content.sizes[content.box_images]
        other_size = content.select(
            i for i, mask in masks.items() if mask['size'] != sizes[i, ::-1].tolist()
        )
    warnings = [
        (
            other_size,
            'have masks of another "size" than their image is annotated with. MMDetection fails on them unless the '
            'image file has the size of the mask',
        ),
        (
            left_out,
            'of zero size, outside of the image or with "ignore" are left out by MMDetection',
        ),
        (
            content.degenerate,
            f'have less than a pixel inside their image{advise_filter(key, config)}',
        ),
    ]
    return [
        f'warning: {key}: {chosen.sum():,} boxes {text}: {content.describe(chosen)}'
        for chosen, text in warnings
        if chosen.any()
    ]
