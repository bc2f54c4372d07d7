"""Check of the data of a config at the start of a run: files, annotations and consistency.

MMDetection finds a missing annotation file when the dataset is built, a missing image in mid-epoch and a wrong
annotation file of an evaluator after the first epoch. :func:`check_datasets` finds them before the Runner is built.

No image is decoded. ``tools/check_data.py`` decodes all of them, with :mod:`surge_mm.preflight.image_consistency`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.preflight.box_consistency import check_boxes
from surge_mm.preflight.cache import cache_file, fingerprint, load_result, save_result
from surge_mm.preflight.coco import read_coco
from surge_mm.preflight.config_consistency import (
    IGNORED,
    annotation_file,
    check_class_list,
    check_evaluator,
    count_boxes,
    match_class_order,
    match_classes,
    match_heads,
    match_labels,
    must_exist,
)
from surge_mm.preflight.leaves import build_lazily, find_leaves
from surge_mm.preflight.selection import select_images
from surge_mm.preflight.text_consistency import (
    check_texts,
    count_rows,
    match_evaluator,
    match_holdout,
    match_pretrained,
    match_text,
    match_vocabularies,
)
from surge_mm.preflight.voc import read_voc
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect


def check_datasets(
    cfg: Config, splits: Sequence[str] = ('train', 'val'), cached: bool = False
) -> list[str]:
    """Check the datasets and evaluators of a config.

    MMDetection's ``CocoDataset`` and ``XMLDataset``, datasets that inherit their reading, and ``surge_mm.GlueDataset``
    are read in full, also inside wrappers. Of other datasets, the files and folders must exist.

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
    file = cache_file(cfg, splits)
    lines = load_result(file) if cached else None
    if lines is None:
        found = Inspection(cfg, splits)
        if found.problems:
            raise DatasetError('\n'.join(found.problems))
        lines = found.lines
        if cached:
            save_result(file, found.files, lines)
    return lines


class Inspection:
    """The datasets of a config, which are read, and what is wrong with them.

    Args:
        cfg (Config): config of a run.
        splits (Sequence[str]): names of the dataloaders and evaluators.

    Attributes:
        lines (list[str]): counts and warnings.
        problems (list[str]): what is wrong.
        datasets (list[tuple]): key and config of the datasets whose annotations can be read.
        files (dict): fingerprints of the files that were used.
    """

    def __init__(self, cfg: Config, splits: Sequence[str]) -> None:
        self.cfg = cfg
        self.lines: list[str] = []
        self.problems: list[str] = []
        self.datasets: list[tuple[str, ConfigDict]] = []
        self.files: dict[str, list[int] | None] = {}
        self._texts: dict[str, Any] = {}
        self._labels: dict[str, Sequence[str]] = {}
        self._boxes: dict[str, int] = {}
        self._read_coco = cache(read_coco)
        for split in splits:
            contents: list[Annotations] = []
            loader = self.cfg.get(f'{split}_dataloader') or {}
            leaves = list(find_leaves(f'{split}_dataloader.dataset', loader.get('dataset')))
            for key, config in leaves:
                try:
                    self._check_dataset(key, config, split == 'train', contents)
                except DatasetError as error:
                    self.problems.append(str(error))
            if (
                split == 'train'
                and leaves
                and not any(self._boxes.get(key, 1) for key, _ in leaves)
            ):
                files = ', '.join(content.source for content in contents)
                ignored = sum(int(content.ignored.sum()) for content in contents)
                self.problems.append(
                    f'train_dataloader.dataset has no annotation to train on: {files}'
                    + (f'. MMDetection ignores {ignored:,} boxes ({IGNORED})' if ignored else '')
                )
            evaluators = self.cfg.get(f'{split}_evaluator') or []
            single = isinstance(evaluators, dict)
            for number, evaluator in enumerate([evaluators] if single else evaluators):
                key = f'{split}_evaluator' if single else f'{split}_evaluator.{number}'
                if path := annotation_file(evaluator):
                    self._use(path)
                try:
                    check_evaluator(key, evaluator, contents, self._read_coco)
                    for name, dataset in self._texts.items():
                        if name.startswith(f'{split}_dataloader.'):
                            match_evaluator(key, evaluator, dataset.metainfo['task'])
                except DatasetError as error:
                    self.problems.append(str(error))
        try:
            match_labels(self._labels, cfg)
        except DatasetError as error:
            self.problems.append(str(error))

    def _use(self, path: str) -> None:
        if path not in self.files:
            self.files[path] = fingerprint(path)

    def _must_exist(self, key: str, path: str, root_key: str) -> None:
        must_exist(key, path, root_key)
        self._use(path)

    def _check_dataset(
        self, key: str, config: ConfigDict, training: bool, contents: list[Annotations]
    ) -> None:
        """Check a dataset and append its annotations to ``contents``."""
        lines = self.lines
        dataset = build_lazily(key, config, self.cfg.get('default_scope'))
        if dataset is None:
            lines.append(f'{key}: not checked, {config["type"]} is not a dataset of MMEngine')
            return
        classes = dataset.metainfo.get('classes')
        match_heads(key, dataset.metainfo.get('thing_classes', classes), self.cfg)
        if config.get('backend_args') or '://' in f'{dataset.data_root}{dataset.ann_file}':
            lines.append(f'{key}: not checked, the data is not on local disks')
            return

        if 'vocabulary' in dataset.metainfo:  # surge_mm.GlueDataset
            self._check_texts(key, dataset)
            return
        if dataset.ann_file:
            self._must_exist(f'{key}.ann_file', dataset.ann_file, f'{key}.data_root')
        reader = {
            getattr(type(dataset), method).__qualname__.split('.')[0]
            for method in ('load_data_list', 'parse_data_info')
        }
        if reader not in ({'CocoDataset'}, {'XMLDataset'}):
            if dataset.data_root and not getattr(dataset, 'download', False):
                self._must_exist(f'{key}.data_root', dataset.data_root, f'{key}.data_root')
            self.datasets.append((key, config))
            lines.append(f'{key}: the files exist ({type(dataset).__name__})')
            return
        if not dataset.ann_file:
            raise DatasetError(
                f'{key}.ann_file={dataset.ann_file!r} must be the path of an annotation file: set it with '
                f'--cfg-options {key}.ann_file=PATH'
            )
        check_class_list(key, classes)
        read = self._coco if reader == {'CocoDataset'} else self._voc
        folder, content = read(key, dataset)
        match_classes(key, classes, content)
        total = len(content.image_files)
        content = select_images(key, dataset, content)
        lines += count_boxes(key, classes, content, total, training)
        self._boxes[key] = sum(content.counts.get(name, 0) for name in classes)
        self._labels[key] = classes
        if reader == {'CocoDataset'}:
            self._labels[key] = [name for name in content.names if name in classes]
            lines += match_class_order(key, classes, content)
        contents.append(content)
        self.datasets.append((key, config))
        self._check_image_files(key, folder, content)
        lines += check_boxes(key, config, content, classes)

    def _check_texts(self, key: str, dataset: Any) -> None:
        check_texts(key, dataset)
        self._must_exist(f'{key}.ann_file', dataset.ann_file, f'{key}.data_root')
        self._use(dataset.vocab)
        match_text(key, dataset, self.cfg)
        for file in match_pretrained(key, dataset, self.cfg):
            self._use(file)
        self.lines += match_holdout(key, dataset, self._texts)
        self._texts[key] = dataset
        match_vocabularies(self._texts)
        self.lines.append(count_rows(key, dataset))

    def _coco(self, key: str, dataset: Any) -> tuple[str, Annotations]:
        """Return folder of the images and annotations of a dataset that reads as MMDetection's ``CocoDataset``."""
        folder = dataset.data_prefix.get('img')
        if folder is None:
            raise DatasetError(f'{key}.data_prefix has no "img", the folder of the images')
        self._must_exist(f'{key}.data_prefix.img', folder or '.', f'{key}.data_root')
        return folder, self._read_coco(dataset.ann_file)

    def _voc(self, key: str, dataset: Any) -> tuple[str, Annotations]:
        """Return folder of the images and annotations of a dataset that reads as MMDetection's ``XMLDataset``."""
        folder = dataset.sub_data_root
        for subfolder in (dataset.img_subdir, dataset.ann_subdir):
            path = os.path.join(folder, subfolder)
            self._must_exist(f'{key}.data_prefix.sub_data_root', path, f'{key}.data_root')
        annotation_folder = os.path.join(folder, dataset.ann_subdir)
        for file in Path(annotation_folder).glob('*.xml'):
            self._use(str(file))
        content = read_voc(
            dataset.ann_file, annotation_folder, dataset.img_subdir, dataset.metainfo['classes']
        )
        if dataset.bbox_min_size is not None:
            low, high = np.hsplit(content.boxes, 2)
            content.ignored |= (high - low < dataset.bbox_min_size).any(1)
        return folder, content

    def _check_image_files(self, key: str, folder: str, content: Annotations) -> None:
        paths = [os.path.join(folder, name) for name in content.image_files.values()]
        listed = {parent: _files_of(parent) for parent in set(map(os.path.dirname, paths))}
        for parent in listed:
            self._use(parent or '.')
        defects = [
            f'{path} {defect}'
            for path in paths
            if os.path.basename(path) not in listed[os.path.dirname(path)]
            and (defect := file_defect(path))
        ]
        if defects:
            raise DatasetError(
                f'{key}: {len(defects):,} of {len(paths):,} image files cannot be used:\n  '
                + some(defects, '\n  ')
            )


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # each file is checked for itself
        return set()
