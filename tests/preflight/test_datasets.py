import io
import json
from pathlib import Path

import pytest
from helpers.digits_configs import coco, config, edit_json, message_of, voc
from mmengine.config import Config

from surge_mm.launch.cli import run
from surge_mm.launch.runner import check_data
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import DatasetError


@pytest.mark.parametrize('layout', [coco, voc])
def test_good_data_gives_a_line_of_counts_per_dataset(folder, layout):
    lines = check_datasets(config(layout('train'), layout('val')))
    counts = {
        s: len(json.loads((folder / f'annotations/{s}.json').read_text())['annotations'])
        for s in ('train', 'val')
    }
    assert lines[0].startswith(f'train_dataloader.dataset: 6 images, {counts["train"]} boxes of ')
    assert any(
        line.startswith(f'val_dataloader.dataset: 3 images, {counts["val"]} boxes of ')
        for line in lines
    )


def test_a_config_without_dataloaders_has_nothing_to_check():
    assert check_datasets(Config({'default_scope': 'mmdet', 'train_dataloader': None})) == []


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_missing_annotation_file_names_key_path_directory_and_a_way_out_that_works(
    folder, layout
):
    cfg = config(layout('train', data_root='elsewhere'))
    message = message_of(cfg)
    assert message.startswith('train_dataloader.dataset.ann_file does not exist: elsewhere/')
    assert str(Path.cwd()) in message
    assert '--cfg-options train_dataloader.dataset.data_root=FOLDER' in message
    cfg.merge_from_dict({'train_dataloader.dataset.data_root': 'set'})
    assert '6 images' in check_datasets(cfg)[0]


@pytest.mark.parametrize(
    ('dataset', 'key', 'path'),
    [
        (coco('train', data_prefix={'img': 'pictures'}), 'data_prefix.img', 'set/pictures'),
        (
            voc('train', data_prefix={'sub_data_root': 'VOC2012/'}),
            'data_prefix.sub_data_root',
            'set/VOC2012/JPEGImages',
        ),
        (voc('train', ann_subdir='xml'), 'data_prefix.sub_data_root', 'set/VOC2007/xml'),
    ],
)
def test_a_missing_folder_names_key_and_path(folder, dataset, key, path):
    assert f'train_dataloader.dataset.{key} does not exist: {path}\n' in message_of(config(dataset))


@pytest.mark.parametrize('layout', [coco, voc])
@pytest.mark.parametrize('ann_file', [None, ''])
def test_a_dataset_without_an_annotation_file_is_named(folder, layout, ann_file):
    message = message_of(config(layout('train'), layout('val', ann_file=ann_file)))
    assert message.startswith(f'val_dataloader.dataset.ann_file={ann_file!r} must be the path')


def test_datasets_inside_wrappers_are_named_by_keys_that_cfg_options_take(folder):
    concat = {'type': 'ConcatDataset', 'datasets': [voc('train'), voc('val', data_root='away')]}
    cfg = config({'type': 'RepeatDataset', 'times': 3, 'dataset': concat})
    key = 'train_dataloader.dataset.dataset.datasets.1'
    message = message_of(cfg)
    assert message.startswith(f'{key}.ann_file does not exist: away/')
    cfg.merge_from_dict({f'{key}.data_root': 'set'})
    assert [line.split(': ')[0] for line in check_datasets(cfg) if 'images' in line] == [
        'train_dataloader.dataset.dataset.datasets.0',
        key,
    ]


def test_images_without_boxes_may_stand_beside_others(folder):
    edit_json(folder / 'annotations/val.json', lambda c: c['annotations'].clear())
    background = coco('val', test_mode=False, filter_cfg={'filter_empty_gt': False})
    sets = {'type': 'ConcatDataset', 'datasets': [coco('train'), background]}
    lines = check_datasets(config(sets))
    key = 'train_dataloader.dataset.datasets.1'
    assert (
        f'warning: {key}.ann_file has no annotation to train on: set/annotations/val.json' in lines
    )
    sets = {'type': 'ConcatDataset', 'datasets': [background, background]}
    assert 'train_dataloader.dataset has no annotation to train on' in message_of(config(sets))


def test_everything_wrong_is_said_in_one_error(folder):
    (folder / 'VOC2007/JPEGImages/000008.jpg').unlink()
    cfg = config(
        coco('train', data_root='away'),
        coco('val'),
        val_evaluator={'type': 'CocoMetric', 'ann_file': 'x'},
    )
    message = message_of(cfg)
    assert 'train_dataloader.dataset.ann_file does not exist' in message
    assert 'val_evaluator.ann_file does not exist: x' in message
    assert '000008.jpg is missing' in message


def test_only_the_splits_asked_for_are_checked(folder):
    cfg = config(coco('train'), test_dataloader={'dataset': coco('val', data_root='away')})
    check_datasets(cfg)
    assert 'test_dataloader.dataset.ann_file' in message_of(cfg, splits=('test',))


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_class_list_that_matches_nothing_lists_both_sides(folder, layout):
    message = message_of(config(layout('train', metainfo={'classes': ('cat', 'dog')})))
    assert 'train_dataloader.dataset.metainfo.classes matches no annotation of set/' in message
    assert 'the class list has: cat, dog\n' in message
    listed = message.split('the annotations have: ')[1].split('\n')[0].split(', ')
    assert set(listed) <= set('0123456789') and len(listed) >= 5


def test_the_class_list_of_the_dataset_class_counts_when_the_config_has_none(folder):
    dataset = voc('train')
    del dataset['metainfo']
    assert 'aeroplane' in message_of(config(dataset))


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_class_list_that_matches_in_part_is_a_warning_with_counts(folder, layout):
    annotations = json.loads((folder / 'annotations/train.json').read_text())['annotations']
    zeros = sum(a['category_id'] == 1 for a in annotations)
    assert zeros, 'the demo set of this seed must show a 0'
    lines = check_datasets(config(layout('train', metainfo={'classes': ('0', 'cat')})))
    assert f'6 images, {zeros} boxes of 1 classes' in lines[0]
    warnings = [line for line in lines if line.startswith('warning: ')]
    assert any('1 of 2 classes have no box: cat' in line for line in warnings)
    left_out = len(annotations) - zeros
    assert any(f'{left_out} boxes of names outside the class list' in line for line in warnings)


def test_classes_given_as_a_string_are_refused(folder):
    message = message_of(config(coco('train', metainfo={'classes': 'digit'})))
    assert "classes='digit' must be a list" in message


def test_a_dataset_of_the_other_host_or_a_misspelt_one_is_refused(folder):
    cfg = config(coco('train'))
    cfg.default_scope = 'mmpretrain'
    assert "train_dataloader.dataset.type='CocoDataset' is not a dataset" in message_of(cfg)
    assert "type='CocoDatset'" in message_of(config(coco('train', type='CocoDatset')))


def test_a_list_of_annotation_files_is_refused_with_the_way_out(folder):
    message = message_of(config(coco('train', ann_file=['a.json', 'b.json'])))
    assert 'train_dataloader.dataset.ann_file is a list' in message and 'ConcatDataset' in message


def test_an_argument_that_the_dataset_does_not_take_is_refused_by_key(folder):
    message = message_of(config(coco('train', ann_flie='x')))
    assert message.startswith('train_dataloader.dataset: CocoDataset cannot be built')
    assert 'ann_flie' in message


def classification(**dataset) -> Config:
    return Config({'default_scope': 'mmpretrain', 'train_dataloader': {'dataset': dataset}})


def test_mmpretrain_datasets_are_checked_for_existence(folder):
    present = classification(type='ImageNet', data_root='set', split='train')
    assert check_datasets(present) == ['train_dataloader.dataset: the files exist (ImageNet)']
    away = classification(type='ImageNet', data_root='away', split='train')
    assert 'train_dataloader.dataset.data_root does not exist: away' in message_of(away)
    download = {'type': 'CIFAR10', 'data_root': 'cifar', 'split': 'train'}
    assert check_datasets(classification(**download))
    assert 'cifar' in message_of(classification(**download, download=False))
    listed = classification(type='CustomDataset', data_root='set', ann_file='meta/train.txt')
    assert 'train_dataloader.dataset.ann_file does not exist: set/meta/train.txt' in message_of(
        listed
    )


@pytest.mark.parametrize('layout', [coco, voc])
def test_missing_images_links_and_folders_are_named_with_their_number(folder, layout):
    images = folder / 'VOC2007/JPEGImages'
    (images / '000001.jpg').unlink()
    (images / '000002.jpg').unlink()
    (images / '000002.jpg').symlink_to('nowhere.jpg')
    (images / '000003.jpg').unlink()
    (images / '000003.jpg').mkdir()
    (images / '000004.jpg').rename(images / 'real')
    (images / '000004.jpg').symlink_to('real')
    message = message_of(config(layout('train'), layout('val')))
    assert message.startswith('train_dataloader.dataset: 3 of 6 image files cannot be used:')
    for words in ('000001.jpg is missing', '2.jpg is a link to nowhere.jpg', '3.jpg is a folder'):
        assert words in message


def test_of_many_missing_images_the_first_few_are_named(folder, monkeypatch):
    for image in (folder / 'VOC2007/JPEGImages').iterdir():
        image.unlink()
    monkeypatch.setattr('surge_mm.preflight.annotations.SHOWN', 2)
    message = message_of(config(coco('train')))
    assert '6 of 6 image files' in message and 'and 4 more' in message
    assert message.count('is missing') == 2


@pytest.mark.parametrize('layout', [coco, voc])
def test_the_config_is_never_changed(folder, layout):
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'][0]['bbox'].reverse())
    cfg = config(layout('train'), layout('val'))
    before = cfg.to_dict()
    check_datasets(cfg)
    assert cfg.to_dict() == before


def test_names_that_the_terminal_cannot_show_are_escaped(folder, monkeypatch):
    edit_json(folder / 'annotations/train.json', lambda c: c['categories'][0].update(name='ä画'))
    terminal = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr('sys.stdout', terminal)
    run(lambda: check_data(config(coco('train')), ('train',)))
    assert b'left out: \\xe4\\u753b (' in terminal.buffer.getvalue()


@pytest.mark.parametrize(('launcher', 'variable'), [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID')])
def test_only_the_first_rank_checks(folder, monkeypatch, launcher, variable):
    cfg = config(coco('train', data_root='away'), launcher=launcher)
    monkeypatch.setenv(variable, '1')
    check_data(cfg, ('train',))
    monkeypatch.setenv(variable, '0')
    with pytest.raises(DatasetError, match='does not exist: away'):
        check_data(cfg, ('train',))
