"""Results of data checks are used again only where nothing has changed."""

import json
import os

import pytest
from helpers.digits_configs import coco, config, edit_json, voc

from surge_mm.preflight import cache, datasets
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import DatasetError


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Count how many times a data set is inspected."""
    inspected = []
    inspect = datasets.Inspection

    def count(*arguments):
        inspected.append(arguments)
        return inspect(*arguments)

    monkeypatch.setattr(datasets, 'Inspection', count)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return inspected


def edit_box(folder):
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'][0].update(area=7))


def remove_image(folder):
    (folder / 'VOC2007/JPEGImages/000001.jpg').unlink()


def edit_xml(folder):
    path = folder / 'VOC2007/Annotations/000001.xml'
    path.write_text(path.read_text() + '\n')


def edit_split(folder):
    path = folder / 'VOC2007/ImageSets/Main/train.txt'
    path.write_text(path.read_text() + '\n')


def check(cfg):
    return check_datasets(cfg, cached=True)


@pytest.mark.parametrize('layout', [coco, voc])
def test_the_same_data_is_inspected_once(folder, counted, layout):
    cfg = config(layout('train'), layout('val'))
    if layout is coco:
        cfg.val_evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    first = check(cfg)
    assert check(cfg) == first and len(counted) == 1
    assert check_datasets(cfg) == first and len(counted) == 2


@pytest.mark.parametrize(
    ('layout', 'change'),
    [(coco, edit_box), (coco, remove_image), (voc, edit_xml), (voc, edit_split)],
)
def test_a_changed_file_is_inspected_again(folder, counted, layout, change):
    cfg = config(layout('train'))
    check(cfg)
    change(folder)
    if change in (edit_box, edit_xml):
        check(cfg)
    else:
        with pytest.raises(DatasetError):
            check(cfg)
    assert len(counted) == 2


def test_a_changed_config_or_version_is_inspected_again(folder, counted, monkeypatch):
    check(config(coco('train')))
    check(config(coco('train'), model={'bbox_head': {'num_classes': 10}}))
    check(config(coco('train', metainfo={'classes': ('0', '1')})))
    monkeypatch.setattr(cache, 'VERSION', cache.VERSION + 1)
    check(config(coco('train')))
    assert len(counted) == 4


def test_refused_data_is_inspected_at_each_start(folder, counted):
    cfg = config(coco('train', data_root='away'))
    for _ in range(2):
        with pytest.raises(DatasetError):
            check(cfg)
    assert len(counted) == 2


@pytest.mark.parametrize('content', ['', '[]', '[{'])
def test_a_damaged_cache_is_ignored(folder, counted, tmp_path, content):
    cfg = config(coco('train'))
    check(cfg)
    (file,) = (tmp_path / 'cache').rglob('*.json')
    assert json.loads(file.read_text())[0]
    file.write_text(content)
    check(cfg)
    assert len(counted) == 2


def test_a_cache_that_cannot_be_written_is_no_error(folder, counted, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    for _ in range(2):
        check(config(coco('train')))
    assert len(counted) == 2
    assert os.path.isfile(tmp_path / 'file')
