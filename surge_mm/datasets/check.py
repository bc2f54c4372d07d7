"""The check of a config's data before training: what is missing, broken or does not fit is said at once.

MMDetection finds a missing annotation file when the dataset is built, a truncated image in mid-epoch
and an evaluator's wrong annotation file after the first epoch. :func:`check_datasets` finds them all
before the Runner is built, names the config key and the way out.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from surge_mm.datasets.annotations import (
    Annotations,
    DatasetError,
    coco_order,
    match_classes,
    read_coco,
    read_voc,
    some,
)
from surge_mm.datasets.files import check_each, image_defect, md5_defects

__all__ = ['DatasetError', 'check_datasets']


def check_datasets(cfg: Config, splits: Sequence[str] = ('train', 'val')) -> list[str]:
    """Checks the datasets and evaluators of a config before time is spent on them.

    Read in full: MMDetection's ``CocoDataset`` and ``XMLDataset`` and what inherits their reading,
    also inside wrappers. Of other datasets, the files and folders must exist.

    A VOC dataset with boxes of zero width or height gets MMDetection's ``FilterAnnotations`` into its
    pipeline **in the config**: the host itself would train on them (to a loss of inf or NaN) and
    count them as never found. ``CocoDataset`` leaves such boxes out of its own accord.

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
    coco_files: dict[str, Annotations] = {}
    images: dict[str, str] = {}
    for split in splits:
        dataloader = cfg.get(f'{split}_dataloader')
        if not dataloader:
            continue
        contents = []
        for key, dataset in _leaves(f'{split}_dataloader.dataset', dataloader.get('dataset')):
            try:
                content, paths, said = _check_dataset(
                    key, dataset, cfg.get('default_scope'), split == 'train', coco_files
                )
                _match_heads(key, dataset, cfg)
            except DatasetError as error:
                problems.append(str(error))
                continue
            contents.append(content)
            lines += said
            for path in paths:
                images.setdefault(path, key)
        evaluators = cfg.get(f'{split}_evaluator') or []
        single = isinstance(evaluators, dict)
        for number, evaluator in enumerate([evaluators] if single else evaluators):
            key = f'{split}_evaluator' if single else f'{split}_evaluator.{number}'
            try:
                lines += _check_evaluator(key, evaluator, contents, coco_files)
            except DatasetError as error:
                problems.append(str(error))
    problems += _check_images(images)
    if problems:
        raise DatasetError('\n'.join(problems))
    return lines


def _leaves(key: str, dataset: Any) -> Iterator[tuple[str, ConfigDict]]:
    """The datasets proper inside wrappers such as RepeatDataset and ConcatDataset, with their keys."""
    if not isinstance(dataset, dict):
        return
    if 'datasets' in dataset:
        for number, inner in enumerate(dataset['datasets']):
            yield from _leaves(f'{key}.datasets.{number}', inner)
    elif 'dataset' in dataset:
        yield from _leaves(f'{key}.dataset', dataset['dataset'])
    else:
        yield key, dataset


def _check_dataset(
    key: str,
    config: ConfigDict,
    scope: str | None,
    training: bool,
    coco_files: dict[str, Annotations],
) -> tuple[Annotations | None, list[str], list[str]]:
    """Checks one dataset: its annotations, the paths of its images, and what there is to say."""
    dataset = _build_lazily(key, config, scope)
    if dataset is None:
        return None, [], [f'{key}: not checked, {config["type"]} is no dataset of MMEngine']
    backend = (config.get('backend_args') or {}).get('backend', 'local')
    if backend != 'local' or '://' in f'{dataset.data_root}{dataset.ann_file}':
        return None, [], [f'{key}: not checked, the data is not on local disks']

    root = f'{key}.data_root'
    if dataset.ann_file:
        _must_exist(f'{key}.ann_file', dataset.ann_file, root)
    reader = {
        getattr(type(dataset), method).__qualname__.split('.')[0]
        for method in ('load_data_list', 'parse_data_info')
    }
    if reader == {'CocoDataset'}:
        folder = dataset.data_prefix.get('img')
        if folder is None:
            raise DatasetError(f'{key}.data_prefix has no "img", the folder of the images')
        _must_exist(f'{key}.data_prefix.img', folder or '.', root)
        if dataset.ann_file not in coco_files:
            coco_files[dataset.ann_file] = read_coco(dataset.ann_file)
        content = coco_files[dataset.ann_file]
        lines = coco_order(key, dataset.metainfo['classes'], content)
    elif reader == {'XMLDataset'}:
        folder = dataset.sub_data_root
        voc_key = f'{key}.data_prefix.sub_data_root'
        for subfolder in (dataset.img_subdir, dataset.ann_subdir):
            _must_exist(voc_key, os.path.join(folder, subfolder), root)
        content = read_voc(
            dataset.ann_file, os.path.join(folder, dataset.ann_subdir), dataset.img_subdir
        )
        lines = []
    else:
        _check_other(key, dataset, root)
        return None, [], [f'{key}: the files are there ({type(dataset).__name__})']

    lines = match_classes(key, dataset.metainfo.get('classes'), content, training) + lines
    if content.empty_boxes:
        count = len(content.empty_boxes)
        is_voc = reader == {'XMLDataset'}
        how = _leave_out_empty_boxes(config) if is_voc else 'MMDetection leaves them out'
        lines.append(
            f'warning: {key}: {count:,} {"box" if count == 1 else "boxes"} of zero size skipped '
            f'({how}): {some(content.empty_boxes)}'
        )
    return content, [os.path.join(folder, name) for name in content.image_files.values()], lines


def _match_heads(key: str, config: ConfigDict, cfg: Config) -> None:
    """Refuses a head with another number of classes than the dataset: labels beyond it would count as background."""
    model = cfg.get('model')
    dataset = _build_lazily(key, config, cfg.get('default_scope'))
    if dataset is None or not isinstance(model, dict) or cfg.get('default_scope') != 'mmdet':
        return
    classes = dataset.metainfo.get('classes')
    for name, number in _head_classes('model', model):
        if classes is not None and number != len(classes):
            raise DatasetError(
                f'{name}.num_classes={number}, but {key} has {len(classes)} classes ({some(list(classes))})\n'
                f'  way out: --cfg-options {name}.num_classes={len(classes)}'
            )


def _head_classes(name: str, part: Any) -> Iterator[tuple[str, int]]:
    """The num_classes of heads on boxes and masks, with their keys; region proposals have none to compare."""
    for key in ('roi_head', 'bbox_head', 'mask_head'):
        heads = part.get(key)
        for i, head in enumerate(heads if isinstance(heads, list) else [heads]):
            path = f'{name}.{key}.{i}' if isinstance(heads, list) else f'{name}.{key}'
            if isinstance(head, dict):
                if 'num_classes' in head:
                    yield path, head['num_classes']
                yield from _head_classes(path, head)


def _build_lazily(key: str, config: ConfigDict, scope: str | None) -> BaseDataset | None:
    """Builds a dataset without pipeline and content: the host resolves its paths and classes."""
    with DATASETS.switch_scope_and_registry(scope) as registry:
        kind = config.get('type')
        cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise DatasetError(
            f'{key}.type={kind!r} is no dataset of the scope {scope!r} (default_scope of the config): '
            'a misspelt name, or a config for the other host'
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
        raise DatasetError(f'{key}: {cls.__name__} cannot be built: {error}') from error


def _must_exist(key: str, path: str, root_key: str) -> None:
    if os.path.exists(path):
        return
    way_out = f'{key}=PATH' if key == root_key else f'{root_key}=FOLDER (or {key}=PATH)'
    raise DatasetError(
        f'{key} is not there: {path}\n'
        f'  looked for from the current directory {os.getcwd()}\n'
        f'  way out: --cfg-options {way_out}'
    )


def _check_other(key: str, dataset: BaseDataset, root_key: str) -> None:
    """Existence alone, for datasets with a reading of their own."""
    if dataset.data_root and not getattr(dataset, 'download', False):
        _must_exist(root_key, dataset.data_root, root_key)
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
        _must_exist(f'{key}.data_prefix', dataset.img_prefix or '.', root_key)


def _leave_out_empty_boxes(config: ConfigDict) -> str:
    """Makes the host leave out a VOC dataset's boxes of zero size, and says how."""
    if (config.get('filter_cfg') or {}).get('bbox_min_size', 0) >= 1:
        return 'by filter_cfg.bbox_min_size'
    pipeline = list(config.get('pipeline', []))
    types = [str(step['type']).split('.')[-1] for step in pipeline]
    if 'FilterAnnotations' in types:
        return 'by FilterAnnotations in the pipeline'
    if 'LoadAnnotations' not in types:
        return 'the pipeline loads no annotations'
    step = {'type': 'mmdet.FilterAnnotations', 'min_gt_bbox_wh': (0, 0), 'keep_empty': False}
    pipeline.insert(types.index('LoadAnnotations') + 1, ConfigDict(step))
    config['pipeline'] = pipeline
    return 'by FilterAnnotations, added to the pipeline'


def _check_evaluator(
    key: str,
    evaluator: Any,
    contents: list[Annotations | None],
    coco_files: dict[str, Annotations],
) -> list[str]:
    path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
    if not path or '://' in path:
        return []
    ann_key = f'{key}.ann_file'
    _must_exist(ann_key, path, ann_key)
    if str(evaluator['type']).split('.')[-1] != 'CocoMetric':
        return []
    if path not in coco_files:
        coco_files[path] = read_coco(path)
    truth = coco_files[path]
    if truth.without_iscrowd:
        raise DatasetError(
            f'{ann_key}: {truth.without_iscrowd:,} annotations of {path} have no "iscrowd", which '
            'the COCO evaluation reads: add "iscrowd": 0'
        )
    for content in contents:
        lacking = set(content.image_files) - set(truth.image_files) if content else set()
        if content and lacking:
            raise DatasetError(
                f'{ann_key}={path} lacks {len(lacking):,} of the {len(content.image_files):,} images '
                f'of {content.source}: evaluator and dataloader need the same annotation file'
            )
    if truth.empty_boxes:
        return [
            f'warning: {key}: the COCO evaluation counts {len(truth.empty_boxes):,} boxes of zero '
            f'size in {path} as objects'
        ]
    return []


def _check_images(images: dict[str, str]) -> list[str]:
    """Problems with image files, given the dataset's key of each path."""
    defects: dict[str, list[str]] = {}
    for path, defect in check_each(image_defect, list(images), 'images'):
        if defect:
            defects.setdefault(images[path], []).append(f'{path} {defect}')
    return [
        f'{key}: {len(broken):,} of {sum(k == key for k in images.values()):,} image files cannot be '
        'used:\n  ' + some(broken, '\n  ')
        for key, broken in defects.items()
    ]
