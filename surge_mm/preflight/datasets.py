"""The check of a config's data before training: what is missing, broken or does not fit is said at once.

MMDetection finds a missing annotation file when the dataset is built, a truncated image in mid-epoch
and an evaluator's wrong annotation file after the first epoch. :func:`check_datasets` finds them all
before the Runner is built, names the config key and the way out.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset

from surge_mm.preflight.annotations import Annotations, coco_order, match_classes, some
from surge_mm.preflight.coco import read_coco
from surge_mm.preflight.config_consistency import check_evaluator, match_heads, must_exist
from surge_mm.preflight.image_consistency import Leaf, build_lazily, check_images, find_leaves
from surge_mm.preflight.pipelines import has_masks, leave_out_empty_boxes
from surge_mm.preflight.voc import read_voc
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import md5_defects


def check_datasets(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> list[str]:
    """Checks the datasets and evaluators of a config before time is spent on them.

    Read in full: MMDetection's ``CocoDataset`` and ``XMLDataset`` and what inherits their reading,
    also inside wrappers. Of other datasets, the files and folders must exist.

    Their images are decoded, each once, as training will.

    A VOC dataset with boxes of zero width or height gets MMDetection's ``FilterAnnotations`` into its
    pipeline **in the config**: the host itself would train on them (to a loss of inf or NaN) and
    count them as never found. ``CocoDataset`` leaves such boxes out of its own accord. A dataset with
    boxes outside of their image gets the same step after ``Resize``, which clips them to nothing.

    Args:
        cfg (Config): The config of a run. Only the pipelines just named are changed.
        splits (Sequence[str]): Which dataloaders and evaluators. Defaults to ('train', 'val').

    Returns:
        list[str]: What there is, a line each; lines that begin with ``warning:`` deserve a look.

    Raises:
        DatasetError: With everything that was found to be wrong.
    """
    lines: list[str] = []
    problems: list[str] = []
    leaves: list[Leaf] = []
    read = cache(read_coco)
    scope = cfg.get('default_scope')
    for split in splits:
        dataloader = cfg.get(f'{split}_dataloader')
        if not dataloader:
            continue
        contents = []
        for key, config in find_leaves(f'{split}_dataloader.dataset', dataloader.get('dataset')):
            try:
                dataset = build_lazily(key, config, scope)
                if dataset is None:
                    lines.append(f'{key}: not checked, {config["type"]} is no dataset of MMEngine')
                    continue
                leaf, said = _check_dataset(key, config, dataset, split == 'train', read)
                match_heads(key, dataset.metainfo.get('classes'), cfg)
            except DatasetError as error:
                problems.append(str(error))
                continue
            lines += said
            if leaf:
                leaves.append(leaf)
                contents.append(leaf.content)
        evaluators = cfg.get(f'{split}_evaluator') or []
        single = isinstance(evaluators, dict)
        for number, evaluator in enumerate([evaluators] if single else evaluators):
            key = f'{split}_evaluator' if single else f'{split}_evaluator.{number}'
            try:
                lines += check_evaluator(key, evaluator, contents, read)
            except DatasetError as error:
                problems.append(str(error))
    said, broken = check_images(leaves, scope)
    problems += broken
    if problems:
        raise DatasetError('\n'.join(problems))
    return lines + said


def _check_dataset(
    key: str,
    config: ConfigDict,
    dataset: BaseDataset,
    training: bool,
    read: Callable[[str, bool], Annotations],
) -> tuple[Leaf | None, list[str]]:
    """Reads the annotations of one dataset: its content, if it is one to read, and what there is to say."""
    backend = (config.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or '://' in f'{dataset.data_root}{dataset.ann_file}':
        return None, [f'{key}: not checked, the data is not on local disks']

    root = f'{key}.data_root'
    if dataset.ann_file:
        must_exist(f'{key}.ann_file', dataset.ann_file, root)
    reader = {
        getattr(type(dataset), method).__qualname__.split('.')[0]
        for method in ('load_data_list', 'parse_data_info')
    }
    if reader == {'CocoDataset'}:
        folder = dataset.data_prefix.get('img')
        if folder is None:
            raise DatasetError(f'{key}.data_prefix has no "img", the folder of the images')
        must_exist(f'{key}.data_prefix.img', folder or '.', root)
        content = read(dataset.ann_file, has_masks(config))
        lines = coco_order(key, dataset.metainfo['classes'], content)
        kind = 'of zero size or outside of the image'
        skip = 'MMDetection leaves them out'
    elif reader == {'XMLDataset'}:
        folder = dataset.sub_data_root
        voc_key = f'{key}.data_prefix.sub_data_root'
        for subfolder in (dataset.img_subdir, dataset.ann_subdir):
            must_exist(voc_key, os.path.join(folder, subfolder), root)
        content = read_voc(
            dataset.ann_file, os.path.join(folder, dataset.ann_subdir), dataset.img_subdir
        )
        lines = []
        kind = 'of zero size'
        skip = leave_out_empty_boxes(config) if content.empty_boxes else ''
    else:
        _check_other(key, dataset, root)
        return None, [f'{key}: the files are there ({type(dataset).__name__})']

    lines = match_classes(key, dataset.metainfo.get('classes'), content, training) + lines
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
    if content.empty_boxes:
        count = len(content.empty_boxes)
        lines.append(
            f'warning: {key}: {count:,} {"box" if count == 1 else "boxes"} {kind} skipped '
            f'({skip}): {some(content.empty_boxes)}'
        )
    return Leaf(key, config, dataset, content, folder), lines


def _check_other(key: str, dataset: BaseDataset, root_key: str) -> None:
    """Existence alone, for datasets with a reading of their own."""
    if dataset.data_root and not getattr(dataset, 'download', False):
        must_exist(root_key, dataset.data_root, root_key)
    if hasattr(dataset, 'base_folder'):  # MMPretrain's CIFAR
        if dataset.download:
            return
        listed = dataset.train_list if dataset.split == 'train' else dataset.test_list
        folder = os.path.join(dataset.data_prefix['root'], dataset.base_folder)
        defects = md5_defects(folder, listed)
        if defects:
            raise DatasetError(
                '\n'.join(f'{key}: {defect}' for defect in defects)
                + f'\n  way out: unpack {dataset.url} into {root_key}'
            )
    elif isinstance(getattr(dataset, 'img_prefix', None), str):  # MMPretrain's folders of images
        must_exist(f'{key}.data_prefix', dataset.img_prefix or '.', root_key)
