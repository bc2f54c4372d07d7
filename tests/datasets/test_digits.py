import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.datasets import CocoDataset, VOCDataset
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from surge_mm.datasets import digits as digits_module
from surge_mm.datasets.digits import CLASSES, main, make_digits, split_scans

TRAIN, VAL, TEST = 24, 8, 5


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', train=TRAIN, val=VAL, test=TEST)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def boxes_of(dataset) -> dict[str, list]:
    return {
        Path(info['img_path']).name: [(i['bbox_label'], *i['bbox']) for i in info['instances']]
        for info in dataset
    }


def test_pycocotools_reads_both_annotation_files(folder):
    for split, count in (('train', TRAIN), ('val', VAL), ('test', TEST)):
        coco = COCO(folder / f'annotations/{split}.json')
        assert len(coco.imgs) == count
        assert [c['name'] for c in coco.loadCats(coco.getCatIds())] == list('0123456789')
        for image_id in coco.imgs:
            assert 3 <= len(coco.getAnnIds(imgIds=image_id)) <= 7
        for annotation in coco.anns.values():
            x, y, width, height = annotation['bbox']
            assert x >= 0 and y >= 0 and x + width <= 128 and y + height <= 128
            assert annotation['area'] == width * height
            assert annotation['iscrowd'] == 0


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_mmdet_reads_the_same_boxes_from_the_coco_and_the_voc_layout(folder, split):
    common = {'data_root': str(folder), 'metainfo': {'classes': CLASSES}, 'pipeline': []}
    coco = CocoDataset(
        ann_file=f'annotations/{split}.json',
        data_prefix={'img': 'VOC2007/JPEGImages/'},
        **common,
    )
    voc = VOCDataset(
        ann_file=f'VOC2007/ImageSets/Main/{split}.txt',
        data_prefix={'sub_data_root': 'VOC2007/'},
        **common,
    )
    assert boxes_of(coco) == boxes_of(voc)
    assert len(boxes_of(coco)) == {'train': TRAIN, 'val': VAL, 'test': TEST}[split]
    for info in [*coco, *voc]:
        assert cv2.imread(info['img_path']).shape == (info['height'], info['width'], 3)


def test_boxes_are_tight_around_the_ink(folder):
    coco = COCO(folder / 'annotations/train.json')
    for image_id, image in coco.imgs.items():
        pixels = cv2.imread(str(folder / 'VOC2007/JPEGImages' / image['file_name']))
        bright = cv2.GaussianBlur(pixels, (3, 3), 0).min(axis=2) > 145
        outside = bright.copy()
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            x, y, width, height = annotation['bbox']
            outside[max(y - 1, 0) : y + height + 1, max(x - 1, 0) : x + width + 1] = False
            ys, xs = np.nonzero(bright[y : y + height, x : x + width])
            assert xs.min() <= 3 and xs.max() >= width - 4
            assert ys.min() <= 3 and ys.max() >= height - 4
        assert not outside.any()


def test_train_val_and_test_show_disjoint_scans():
    scans = split_scans(seed=5)
    assert list(scans) == ['train', 'val', 'test']
    assert sorted(np.concatenate(list(scans.values()))) == list(range(1797))
    labels = load_digits().target
    for indices in scans.values():
        assert set(labels[indices]) == set(range(10))


def test_images_draw_only_on_the_scans_of_their_split(tmp_path, monkeypatch):
    drawn = []

    def spy(scans, labels, size, rng):
        drawn.append((scans, labels))
        return original(scans, labels, size, rng)

    original = digits_module.draw_image
    monkeypatch.setattr(digits_module, 'draw_image', spy)
    make_digits(tmp_path / 'set', train=2, val=1, test=3, seed=5)
    assert len(drawn) == 6
    bunch = load_digits()
    split = split_scans(5)
    for start, stop, name in ((0, 2, 'train'), (2, 3, 'val'), (3, 6, 'test')):
        for scans, labels in drawn[start:stop]:
            indices = split[name]
            assert np.array_equal(scans * 16, bunch.images[indices])
            assert np.array_equal(labels, bunch.target[indices])


def test_second_making_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = contents(make_digits(tmp_path / 'again', train=TRAIN, val=VAL, test=TEST))
    other = contents(make_digits(tmp_path / 'other', train=TRAIN, val=VAL, test=TEST, seed=1))
    assert again == contents(folder)
    assert again.keys() == other.keys()
    images = [name for name in again if name.endswith('.jpg')]
    assert len(images) == TRAIN + VAL + TEST
    assert all(again[name] != other[name] for name in images)


def test_a_finished_set_of_the_same_settings_is_reused_untouched(folder, monkeypatch):
    monkeypatch.setattr(digits_module, '_write_set', None)
    assert make_digits(folder, train=TRAIN, val=VAL, test=TEST) == folder


def test_a_set_of_other_settings_is_never_overwritten(folder):
    before = contents(folder)
    with pytest.raises(
        FileExistsError, match='digits with the settings.*choose another folder'
    ) as e:
        make_digits(folder, train=TRAIN + 1, val=VAL, test=TEST)
    assert str(folder) in str(e.value)
    assert contents(folder) == before


def test_a_folder_with_other_data_is_never_overwritten(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='other content than the digits') as e:
        make_digits(tmp_path, train=1, val=1, test=1)
    assert str(tmp_path) in str(e.value)
    assert contents(tmp_path) == {'thesis.txt': b'years of work'}


def test_a_file_in_place_of_the_folder_is_left_alone(tmp_path):
    target = tmp_path / 'set'
    target.write_text('a file')
    with pytest.raises(FileExistsError, match='other content than the digits'):
        make_digits(target, train=1, val=1, test=1)
    assert target.read_text() == 'a file'


def test_an_empty_folder_is_filled(tmp_path):
    make_digits(tmp_path / 'set', train=1, val=1, test=1)
    (tmp_path / 'empty').mkdir()
    make_digits(tmp_path / 'empty', train=1, val=1, test=1)
    assert contents(tmp_path / 'empty') == contents(tmp_path / 'set')


def test_a_link_to_an_empty_folder_stays_a_link(tmp_path):
    place, link = tmp_path / ('d' * 250), tmp_path / 'digits'
    place.mkdir()
    link.symlink_to(place)
    assert make_digits(link, train=1, val=1, test=1) == link
    assert link.is_symlink() and (place / 'annotations' / 'val.json').is_file()


def test_an_interrupted_making_leaves_nothing_and_the_next_one_succeeds(tmp_path, monkeypatch):
    calls = []

    def interrupted(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return original(*args)

    original = digits_module.draw_image
    with monkeypatch.context() as patch:
        patch.setattr(digits_module, 'draw_image', interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_digits(tmp_path / 'set', train=3, val=1, test=1)
    assert list(tmp_path.iterdir()) == []
    assert (make_digits(tmp_path / 'set', train=3, val=1, test=1) / 'digits.json').exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'train': 0}, 'train=0 must be at least 1'),
        ({'val': -1}, 'val=-1'),
        ({'test': 0}, 'test=0'),
        ({'seed': -1}, 'seed=-1'),
        ({'size': 40}, 'size=40.*at least 96'),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        make_digits(tmp_path / 'set', **settings)
    assert list(tmp_path.iterdir()) == []


def test_smallest_images_hold_every_number_of_digits(tmp_path):
    made = make_digits(tmp_path / 'set', train=20, val=1, test=1, size=96)
    coco = json.loads((made / 'annotations/train.json').read_text())
    counts = np.bincount([a['image_id'] for a in coco['annotations']])[1:]
    assert counts.min() >= 3 and counts.max() == 7


def test_the_module_runs_as_a_command(tmp_path, monkeypatch):
    """``python -m`` calls the same function of :mod:`runpy`."""
    monkeypatch.delitem(sys.modules, 'surge_mm.datasets.digits')
    words = ['digits', str(tmp_path / 'set'), '--train=2', '--val=1', '--test=1']
    monkeypatch.setattr(sys, 'argv', words)
    runpy.run_module('surge_mm.datasets.digits', run_name='__main__', alter_sys=True)
    assert (tmp_path / 'set/VOC2007/JPEGImages/000003.jpg').exists()


def test_the_command_reports_errors_in_one_line(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(folder), '--train=3', '--val=1', '--test=1'])
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert 'digits with the settings' in message and message.count('\n') == 1
