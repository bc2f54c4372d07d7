"""The datasets proper of a dataloader, and what their images say about their annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.preflight.images import LARGE_PIXELS, measure_images
from surge_mm.preflight.pipelines import (
    decoder_of,
    has_masks,
    leave_out_clipped_boxes,
    shape_defect,
)
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.registry_errors import explain, near_name

Sizes = dict[str, tuple[int, int]]


@dataclass
class Leaf:
    """A dataset whose annotations have been read, and the folder that its image files are relative to."""

    key: str
    config: ConfigDict
    dataset: BaseDataset
    content: Annotations
    folder: str

    def path(self, image: Any) -> str:
        return os.path.join(self.folder, self.content.image_files[image])

    @property
    def paths(self) -> list[str]:
        return [self.path(image) for image in self.content.image_files]


def find_leaves(key: str, dataset: Any) -> Iterator[tuple[str, ConfigDict]]:
    """The datasets proper inside wrappers such as RepeatDataset and ConcatDataset, with their keys."""
    if not isinstance(dataset, dict):
        return
    if 'datasets' in dataset:
        for number, inner in enumerate(dataset['datasets']):
            yield from find_leaves(f'{key}.datasets.{number}', inner)
    elif 'dataset' in dataset:
        yield from find_leaves(f'{key}.dataset', dataset['dataset'])
    else:
        yield key, dataset


def build_lazily(key: str, config: ConfigDict, scope: str | None) -> BaseDataset | None:
    """Builds a dataset without pipeline and content: the host resolves its paths and classes."""
    with DATASETS.switch_scope_and_registry(scope) as registry:
        kind = config.get('type')
        cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise DatasetError(
            f'{key}.type={kind!r} is no dataset of the scope {scope!r} (default_scope of the config): '
            f'a misspelt name, or a config for the other host{near_name(str(kind), registry)}'
        )
    if isinstance(config.get('ann_file'), list):
        raise DatasetError(
            f'{key}.ann_file is a list: MMEngine takes one file; write one dataset per file into '
            "dict(type='ConcatDataset', datasets=[...])"
        )
    if not issubclass(cls, BaseDataset):
        return None
    arguments = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    for name in ('type', '_scope_'):
        arguments.pop(name, None)
    try:
        return cls(**{**arguments, 'pipeline': [], 'lazy_init': True})
    except Exception as error:  # whatever the host's constructor raises concerns the config
        raise DatasetError(f'{key}: {cls.__name__} cannot be built: {explain(error)}') from error


def check_images(leaves: list[Leaf], scope: str | None) -> tuple[list[str], list[str]]:
    """Decodes the images of all datasets, each once, and compares them with the annotations.

    Returns:
        tuple: What there is to say, and what is wrong.
    """
    lines: list[str] = []
    problems: list[str] = []
    sizes: dict[str, Sizes] = {}
    defects: dict[str, dict[str, str]] = {}
    for decoder in {decoder_of(leaf.config) for leaf in leaves}:
        wanted = [p for leaf in leaves if decoder_of(leaf.config) == decoder for p in leaf.paths]
        sizes[decoder], defects[decoder] = measure_images(list(dict.fromkeys(wanted)), decoder)
    told: set[str] = set()
    for leaf in leaves:
        measured = sizes[decoder_of(leaf.config)]
        broken = {}
        for path in leaf.paths:
            defect = defects[decoder_of(leaf.config)].get(path) or shape_defect(
                leaf.dataset, leaf.config, scope, path, measured[path]
            )
            if defect:
                broken[path] = defect
        new = [f'{path} {defect}' for path, defect in broken.items() if path not in told]
        told.update(broken)
        if new:
            problems.append(
                f'{leaf.key}: {len(new):,} of {len(leaf.paths):,} image files cannot be used:\n  '
                + some(new, '\n  ')
            )
        if broken:
            continue
        try:
            lines += _compare_sizes(leaf, measured) + _leave_out_clipped(leaf, measured)
            lines += _count_filtered(leaf, measured)
        except DatasetError as error:
            problems.append(str(error))
    return lines, problems


def _compare_sizes(leaf: Leaf, measured: Sizes) -> list[str]:
    lines = []
    large = [p for p in leaf.paths if measured[p][0] * measured[p][1] > LARGE_PIXELS]
    if large:
        most = max(measured[p][0] * measured[p][1] for p in large) * 3 / 2**30
        lines.append(
            f'warning: {leaf.key}: {len(large):,} images of more than {LARGE_PIXELS:,} pixels, decoded up to '
            f'{most:.1f} GiB in each worker: {some(large)}'
        )
    others = [
        f'{leaf.content.image_files[image]} is {w}x{h}, not {said[0]}x{said[1]}'
        for image, said in leaf.content.sizes.items()
        for w, h in [measured[leaf.path(image)]]
        if (w, h) != said
    ]
    if others and has_masks(leaf.config):
        raise DatasetError(
            f'{leaf.key}: the masks are for other sizes than those of {len(others):,} images: {some(others)}'
        )
    if others:
        lines.append(
            f'warning: {leaf.key}: {len(others):,} images have another size than their annotations say '
            f'(an image that is turned, or scaled?): {some(others)}'
        )
    return lines


def _leave_out_clipped(leaf: Leaf, measured: Sizes) -> list[str]:
    """Counts boxes with less than a pixel inside their image; ``Resize`` may clip them to nothing."""
    outside = []
    for image, places in leaf.content.placed.items():
        if not places:
            continue
        low, high = np.hsplit(np.array([place[1:] for place in places], dtype=np.float32), 2)
        inside = np.minimum(high, np.array(measured[leaf.path(image)], np.float32)) - np.maximum(
            low, 0
        )
        name = leaf.content.image_files[image]
        outside += [f'{name} {places[i][0]}' for i in np.flatnonzero((inside < 1).any(1))]
    if not outside:
        return []
    how = leave_out_clipped_boxes(leaf.config)
    return [
        f'warning: {leaf.key}: {len(outside):,} boxes with less than a pixel inside their image '
        f'(skipped where nothing is left of them, {how}): {some(outside)}'
    ]


def _count_filtered(leaf: Leaf, measured: Sizes) -> list[str]:
    """Says what ``filter_cfg`` leaves out, by the host's rules.

    Raises:
        DatasetError: If it leaves nothing to train on.
    """
    filter_cfg = leaf.config.get('filter_cfg') or {}
    if leaf.dataset.test_mode or not filter_cfg:
        return []
    images = set(leaf.content.image_files)
    least = filter_cfg.get('min_size', 0)
    small = {i for i in images if min(leaf.content.sizes.get(i, measured[leaf.path(i)])) < least}
    empty = set()
    if filter_cfg.get('filter_empty_gt', False):
        classes = set(leaf.dataset.metainfo['classes'])
        empty = {i for i in images if not leaf.content.labelled.get(i, set()) & classes}
    if not small | empty:
        return []
    why = (
        f'{len(empty):,} without a box of the class list, {len(small):,} of annotated sizes below '
        f'min_size={least}: {some(leaf.content.image_files[i] for i in sorted(small | empty, key=str))}'
    )
    if small | empty == images:
        raise DatasetError(
            f'{leaf.key}.filter_cfg leaves none of the {len(images):,} images of '
            f'{leaf.content.source} to train on ({why})'
        )
    return [
        f'{leaf.key}: filter_cfg leaves out {len(small | empty):,} of {len(images):,} images ({why})'
    ]
