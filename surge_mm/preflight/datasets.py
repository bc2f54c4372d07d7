"""Check of the data of a config at the start of a run: files, annotations and consistency.

MMDetection finds a missing annotation file when the dataset is built, a missing image in mid-epoch and a wrong
annotation file of an evaluator after the first epoch. :func:`check_datasets` finds them before the Runner is built.

No image is decoded. ``tools/check_data.py`` decodes all of them, with :mod:`surge_mm.preflight.image_consistency`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.preflight.cache import EVERY_FILE, cache_key, fingerprint, load_result, save_result
from surge_mm.preflight.coco import read_coco
from surge_mm.preflight.config_consistency import (
    annotation_file,
    check_evaluator,
    match_class_order,
    match_classes,
    match_heads,
    must_exist,
)
from surge_mm.preflight.leaves import Leaf, build_lazily, find_leaves
from surge_mm.preflight.pipelines import advise_filter, has_masks
from surge_mm.preflight.voc import read_voc
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect, md5_defects


def check_datasets(
    cfg: Config, splits: Sequence[str] = ('train', 'val'), cached: bool = False
) -> list[str]:
    """Check the datasets and evaluators of a config.

    MMDetection's ``CocoDataset`` and ``XMLDataset``, and datasets that inherit their reading, are read in full, also
    inside wrappers. Of other datasets, the files and folders must exist.

    Args:
        cfg (Config): config of a run.
        splits (Sequence[str]): names of the dataloaders and evaluators. Defaults to ('train', 'val').
        cached (bool): whether to return the result of an earlier check if neither the config nor a file has changed.
            It is kept in ``$XDG_CACHE_HOME/surge_mm``, by default ``~/.cache/surge_mm``. Defaults to False.

    Returns:
        list[str]: counts and warnings; warnings begin with ``warning:``.

    Raises:
        DatasetError: with everything that is wrong.
    """
    key = cache_key(cfg, splits) if cached else ''
    lines = load_result(key) if cached else None
    if lines is None:
        found = inspect_datasets(cfg, splits)
        if found.problems:
            raise DatasetError('\n'.join(found.problems))
        lines = found.lines
        if cached:
            save_result(key, found.files, lines)
    return lines


@dataclass
class Inspection:
    """Result of :func:`inspect_datasets`.

    Attributes:
        lines (list[str]): counts and warnings.
        problems (list[str]): what is wrong.
        leaves (list[Leaf]): the datasets whose annotations were read.
        others (list[tuple]): key and config of the other datasets of MMEngine that exist.
        files (dict[str, str | None]): fingerprints of the files that were used.
    """

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    others: list[tuple[str, ConfigDict]] = field(default_factory=list)
    files: dict[str, str | None] = field(default_factory=dict)


def inspect_datasets(cfg: Config, splits: Sequence[str]) -> Inspection:
    """Read the datasets of a config and collect what is wrong with them.

    Args:
        cfg (Config): config of a run.
        splits (Sequence[str]): names of the dataloaders and evaluators.

    Returns:
        Inspection: the datasets, counts, warnings and problems.
    """
    return _Inspector(cfg).inspect(splits)


class _Inspector:
    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.found = Inspection()
        self._coco: dict[str, tuple[bool, Annotations]] = {}
        self._missing: set[str] = set()

    def inspect(self, splits: Sequence[str]) -> Inspection:
        found = self.found
        for split in splits:
            loader = self.cfg.get(f'{split}_dataloader')
            if not loader:
                continue
            root = f'{split}_dataloader.dataset'
            for key, config in find_leaves(root, loader.get('dataset')):
                try:
                    found.lines += self._check_dataset(key, config, split == 'train')
                except DatasetError as error:
                    found.problems.append(str(error))
            contents = [leaf.content for leaf in found.leaves if leaf.key.startswith(root)]
            evaluators = self.cfg.get(f'{split}_evaluator') or []
            single = isinstance(evaluators, dict)
            for number, evaluator in enumerate([evaluators] if single else evaluators):
                key = f'{split}_evaluator' if single else f'{split}_evaluator.{number}'
                if path := annotation_file(evaluator):
                    self._use(path)
                try:
                    found.lines += check_evaluator(key, evaluator, contents, self._read_coco)
                except DatasetError as error:
                    found.problems.append(str(error))
        return found

    def _use(self, path: str) -> None:
        if path not in self.found.files:
            self.found.files[path] = fingerprint(path)

    def _must_exist(self, key: str, path: str, root_key: str) -> None:
        must_exist(key, path, root_key)
        self._use(path)

    def _read_coco(self, path: str, masks: bool = False) -> Annotations:
        if path not in self._coco or masks > self._coco[path][0]:
            self._coco[path] = masks, read_coco(path, masks)
        return self._coco[path][1]

    def _check_dataset(self, key: str, config: ConfigDict, training: bool) -> list[str]:
        dataset = build_lazily(key, config, self.cfg.get('default_scope'))
        if dataset is None:
            return [f'{key}: not checked, {config["type"]} is not a dataset of MMEngine']
        match_heads(key, dataset.metainfo.get('classes'), self.cfg)
        backend = (config.get('backend_args') or {}).get('backend', 'local')
        if backend != 'local' or '://' in f'{dataset.data_root}{dataset.ann_file}':
            return [f'{key}: not checked, the data is not on local disks']

        root = f'{key}.data_root'
        if dataset.ann_file:
            self._must_exist(f'{key}.ann_file', dataset.ann_file, root)
        reader = {
            getattr(type(dataset), method).__qualname__.split('.')[0]
            for method in ('load_data_list', 'parse_data_info')
        }
        classes = dataset.metainfo.get('classes')
        if reader == {'CocoDataset'}:
            folder = dataset.data_prefix.get('img')
            if folder is None:
                raise DatasetError(f'{key}.data_prefix has no "img", the folder of the images')
            self._must_exist(f'{key}.data_prefix.img', folder or '.', root)
            content = self._read_coco(dataset.ann_file, has_masks(config))
            lines = match_classes(key, classes, content, training)
            lines += match_class_order(key, classes, content)
            kind, skipped = 'of zero size or outside of the image', 'MMDetection leaves them out'
        elif reader == {'XMLDataset'}:
            folder = dataset.sub_data_root
            for subfolder in (dataset.img_subdir, dataset.ann_subdir):
                sub_key = f'{key}.data_prefix.sub_data_root'
                self._must_exist(sub_key, os.path.join(folder, subfolder), root)
            annotation_folder = os.path.join(folder, dataset.ann_subdir)
            self._use(os.path.join(annotation_folder, EVERY_FILE))
            content = read_voc(dataset.ann_file, annotation_folder, dataset.img_subdir)
            lines = match_classes(key, classes, content, training)
            kind, skipped = 'of zero size', advise_filter(key, config)
        else:
            self._check_other(key, dataset, root)
            self.found.others.append((key, config))
            return [f'{key}: the files exist ({type(dataset).__name__})']

        leaf = Leaf(key, config, dataset, content, folder)
        self.found.leaves.append(leaf)
        self._check_image_files(leaf)
        if content.without_mask:
            raise DatasetError(
                f'{key}.pipeline loads masks, but {len(content.without_mask):,} boxes of '
                f'{content.source} have none to load: {some(content.without_mask)}'
            )
        if content.repeated:
            lines.append(
                f'warning: {key}: {len(content.repeated):,} images are listed more than once in '
                f'{content.source}: {some(content.repeated)}'
            )
        if content.empty.any():
            lines.append(_count_boxes(leaf, content.empty, f'{kind} ({skipped})'))
        clipped = content.clipped(content.sizes)
        if clipped.any():
            advice = advise_filter(key, config, clipped=True)
            kind = f'with less than a pixel inside their image ({advice})'
            lines.append(_count_boxes(leaf, clipped, kind))
        return lines + _count_filtered(leaf)

    def _check_image_files(self, leaf: Leaf) -> None:
        folders: dict[str, set[str]] = {}
        missing = []
        for path in leaf.paths:
            folder, name = os.path.split(path)
            if folder not in folders:
                self._use(folder or '.')
                folders[folder] = _files_of(folder or '.')
            if name not in folders[folder] and path not in self._missing:
                missing.append(path)
        defects = [f'{path} {defect}' for path in missing if (defect := file_defect(path))]
        self._missing.update(missing)
        if defects:
            raise DatasetError(
                f'{leaf.key}: {len(defects):,} of {len(leaf.paths):,} image files cannot be used:\n  '
                + some(defects, '\n  ')
            )

    def _check_other(self, key: str, dataset: BaseDataset, root_key: str) -> None:
        """Check the existence of files, for datasets with their own format."""
        if dataset.data_root and not getattr(dataset, 'download', False):
            self._must_exist(root_key, dataset.data_root, root_key)
        if hasattr(dataset, 'base_folder'):  # MMPretrain's CIFAR
            if dataset.download:
                return
            listed = dataset.train_list if dataset.split == 'train' else dataset.test_list
            folder = os.path.join(dataset.data_prefix['root'], dataset.base_folder)
            for name, _ in listed:
                self._use(os.path.join(folder, name))
            defects = md5_defects(folder, listed)
            if defects:
                raise DatasetError(
                    '\n'.join(f'{key}: {defect}' for defect in defects)
                    + f'\n  unpack {dataset.url} into {root_key}'
                )
        elif isinstance(getattr(dataset, 'img_prefix', None), str):  # MMPretrain's image folders
            self._must_exist(f'{key}.data_prefix', dataset.img_prefix or '.', root_key)


def _files_of(folder: str) -> set[str]:
    def is_file(entry: os.DirEntry) -> bool:
        try:
            return entry.is_file()
        except OSError:  # such as a loop of links
            return False

    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if is_file(entry)}
    except (OSError, ValueError):
        return set()


def _count_boxes(leaf: Leaf, chosen: np.ndarray, kind: str) -> str:
    count = int(chosen.sum())
    named = some(leaf.content.describe(chosen))
    return f'warning: {leaf.key}: {count:,} {"box" if count == 1 else "boxes"} {kind}: {named}'


def _count_filtered(leaf: Leaf) -> list[str]:
    """Count the images that ``filter_cfg`` leaves out, by the rules of the host."""
    config: dict[str, Any] = leaf.config.get('filter_cfg') or {}
    if leaf.dataset.test_mode or not config:
        return []
    content = leaf.content
    least = config.get('min_size', 0)
    small = content.sizes.min(1) < least
    empty = np.zeros_like(small)
    if config.get('filter_empty_gt', False):
        empty = ~content.images_with(leaf.dataset.metainfo['classes'])
    left_out = small | empty
    if not left_out.any():
        return []
    names = np.array(list(content.image_files.values()), dtype=object)[left_out]
    reason = (
        f'{empty.sum():,} without a box of the class list, {small.sum():,} with an annotated size below '
        f'min_size={least}: {some(names)}'
    )
    if left_out.all():
        raise DatasetError(
            f'{leaf.key}.filter_cfg leaves none of the {len(names):,} images of {content.source} to train on '
            f'({reason})'
        )
    return [
        f'{leaf.key}: filter_cfg leaves out {len(names):,} of {len(left_out):,} images ({reason})'
    ]
