import json
import math
import os
import time

import numpy as np
import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, edit_json, message_of, total_boxes
from mmengine.config import Config
from pycocotools import mask

from surge_mm.datasets.digits import CLASSES
from surge_mm.preflight.coco import fills_its_size
from surge_mm.preflight.datasets import check_datasets


def test_another_order_of_classes_than_the_coco_files_is_a_warning(folder):
    lines = check_datasets(config(coco('train', metainfo={'classes': CLASSES[::-1]})))
    assert any(
        'numbers the classes in the order of set/annotations/train.json' in line for line in lines
    )
    assert not any('numbers the classes' in line for line in check_datasets(config(coco('train'))))


def test_crowds_are_not_trained_on(folder):
    def mark(content):
        for annotation in content['annotations'][:count]:
            annotation['iscrowd'] = 1

    count = 2
    total = total_boxes(folder)
    edit_json(folder / 'annotations/train.json', mark)
    line = check_datasets(config(coco('train')))[0]
    assert f'6 images, {total - 2} boxes of ' in line and '; 2 boxes are ignored (iscrowd' in line
    count = total
    edit_json(folder / 'annotations/train.json', mark)
    message = message_of(config(coco('train')))
    assert message.startswith('train_dataloader.dataset has no annotation to train on: set/')
    assert f'MMDetection ignores {total} boxes' in message


def damage_bbox(content):
    content['annotations'][0]['bbox'] = [1, 2, 3]


def damage_references(content):
    for annotation in content['annotations']:
        annotation['image_id'] = 999


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.pop('categories'), 'needs the lists images, categories, annotations'),
        (
            lambda c: c['annotations'][0].pop('area'),
            'annotations[0] needs "area", a finite number of usual size, but is {',
        ),
        (
            lambda c: c['images'][1].pop('file_name'),
            'images[1] needs "file_name", a name, but is {"id": 2, ',
        ),
        (lambda c: c['annotations'][1].update(id=1), '2 annotations have the same id: 1'),
        (lambda c: c['categories'][1].update(name='0'), "2 categories have the same name: '0'"),
        (damage_bbox, 'annotations[0] needs "bbox", [x, y, width, height] of finite numbers'),
        (damage_references, 'no annotation refers to an image and a category of the file'),
        (lambda c: c['annotations'].clear(), 'has no annotation to train on'),
    ],
)
def test_a_malformed_coco_file_is_named_with_what_it_lacks(folder, change, words):
    edit_json(folder / 'annotations/train.json', change)
    message = message_of(config(coco('train')))
    assert 'set/annotations/train.json' in message and words in message


@pytest.mark.parametrize('change', [{'image_id': 999}, {'category_id': 999}])
def test_annotations_of_unlisted_images_or_categories_are_counted_and_left_out(folder, change):
    total = total_boxes(folder)
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'][0].update(change))
    lines = check_datasets(config(coco('train')))
    assert f'6 images, {total - 1} boxes of ' in lines[0]
    assert any(
        '1 annotations of images or categories that set/annotations/train.json does not' in line
        for line in lines
    )


@pytest.mark.parametrize('change', [{'ignore': 1}, {'image_id': 999}])
@pytest.mark.parametrize('box', [{'bbox': []}, {'area': None}])
def test_boxes_that_mmdetection_does_not_read_may_be_malformed(folder, change, box):
    total = total_boxes(folder)
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'][0].update(change | box))
    assert f'6 images, {total - 1} boxes of ' in check_datasets(config(coco('train')))[0]


def test_boxes_of_unlisted_categories_are_read_by_mmdetection(folder):
    change = {'category_id': 999, 'bbox': []}
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'][0].update(change))
    assert 'annotations[0] needs "bbox"' in message_of(config(coco('train')))


def test_a_cut_off_json_is_named(folder):
    path = folder / 'annotations/train.json'
    path.write_text(path.read_text()[:500])
    assert message_of(config(coco('train'))).startswith(f'{path} is not readable as JSON: ')


def test_a_coco_test_file_without_annotations_is_fine_outside_training(folder):
    edit_json(folder / 'annotations/val.json', lambda c: c.pop('annotations'))
    cfg = config(coco('train'), test_dataloader={'dataset': coco('val')})
    assert '3 images, 0 boxes' in check_datasets(cfg, splits=['test'])[0]


@pytest.mark.parametrize(
    ('part', 'key', 'value'),
    [
        ('images', 'width', None),
        ('images', 'file_name', None),
        ('images', 'id', None),
        ('images', 'id', [1]),
        ('categories', 'name', 3),
        ('annotations', 'area', None),
        ('annotations', 'area', '12'),
        ('annotations', 'area', True),
        ('annotations', 'image_id', {}),
        ('annotations', 'bbox', None),
        ('annotations', 'bbox', [1, None, 5, 5]),
        ('annotations', 'bbox', [1, '2', 5, 5]),
        ('annotations', 'bbox', [1, math.nan, 5, 5]),
        ('annotations', 'bbox', [1, 2, math.inf, 5]),
        ('annotations', 'bbox', [1, 2, 1e39, 5]),
        ('annotations', 'bbox', [1, 2, 10**19, 5]),
        ('annotations', 'bbox', [1, 2, 10**40, 5]),
        ('annotations', 'id', True),
        ('images', 'height', '96'),
    ],
)
def test_null_or_text_for_a_number_is_refused_with_key_and_value(folder, part, key, value):
    edit_json(folder / 'annotations/train.json', lambda c: c[part][0].update({key: value}))
    message = message_of(config(coco('train')))
    assert message.startswith(f'set/annotations/train.json: {part}[0] needs "{key}", ')


def test_image_ids_of_two_kinds_are_refused(folder):
    def change(content):
        content['images'][0]['id'] = 'first'

    edit_json(folder / 'annotations/train.json', change)
    assert '"id" is text in some images and a number in others' in message_of(config(coco('train')))


def test_annotations_that_are_no_list_are_refused(folder):
    edit_json(folder / 'annotations/train.json', lambda c: c.update(annotations=None))
    assert 'needs the lists images, categories, annotations' in message_of(config(coco('train')))


def test_json_nested_beyond_pythons_stack_is_refused(folder):
    (folder / 'annotations/train.json').write_text('[' * 100_000)
    assert 'train.json is not readable as JSON: maximum recursion depth exceeded' in message_of(
        config(coco('train'))
    )


def test_a_pipe_in_the_place_of_the_annotations_is_not_waited_for(folder):
    (folder / 'annotations/train.json').unlink()
    os.mkfifo(folder / 'annotations/train.json')
    assert 'it is a pipe or device' in message_of(config(coco('train')))


def with_masks() -> Config:
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    return config(coco('train', pipeline=[LOAD[0], load, PACK]))


def test_masks_are_asked_for_only_by_a_pipeline_that_loads_them(folder):
    assert check_datasets(config(coco('train')))
    message = message_of(with_masks())
    assert 'pipeline loads masks, but ' in message and 'have no "segmentation": 000001' in message

    def add(content):
        for annotation in content['annotations']:
            annotation['segmentation'] = [[1, 1, 9, 1, 9, 9]]

    edit_json(folder / 'annotations/train.json', add)
    assert check_datasets(with_masks())


def test_boxes_of_classes_that_are_not_used_need_no_mask(folder):
    def add(content):
        names = {category['id']: category['name'] for category in content['categories']}
        for annotation in content['annotations']:
            if names[annotation['category_id']] == used:
                annotation['segmentation'] = [[1, 1, 9, 1, 9, 9]]

    content = json.loads((folder / 'annotations/train.json').read_text())
    names = {category['id']: category['name'] for category in content['categories']}
    used = names[content['annotations'][0]['category_id']]
    edit_json(folder / 'annotations/train.json', add)
    cfg = with_masks()
    assert 'have no "segmentation"' in message_of(cfg)
    cfg.train_dataloader.dataset.metainfo = {'classes': (used,)}
    assert check_datasets(cfg)


def encoded(pixels):
    return mask.encode(np.asfortranarray(pixels, np.uint8))['counts'].decode()


def set_first_mask(folder, value, size=None):
    def change(content):
        for annotation in content['annotations']:
            annotation['segmentation'] = [[1, 1, 9, 1, 9, 9]]
        first = content['annotations'][0]
        image = next(i for i in content['images'] if i['id'] == first['image_id'])
        first['segmentation'] = {'size': size or [image['height'], image['width']], 'counts': value}

    edit_json(folder / 'annotations/train.json', change)


@pytest.mark.parametrize('share', [0, 0.02, 0.5, 1])
def test_run_lengths_that_fill_the_image_are_accepted(folder, share):
    pixels = np.random.default_rng(0).random((128, 128)) < share
    pixels[40:60, 20:90] ^= True  # long runs and negative differences
    set_first_mask(folder, encoded(pixels))
    assert not any('mask' in line for line in check_datasets(with_masks()))
    runs = np.diff(np.flatnonzero(np.diff(pixels.T.ravel(), prepend=2, append=2))).tolist()
    set_first_mask(folder, runs if not pixels[0, 0] else [0, *runs])
    assert not any('mask' in line for line in check_datasets(with_masks()))


@pytest.mark.parametrize(
    'counts',
    [
        [100, 50],
        [100, 50, 128 * 128],
        [-5, 128 * 128 + 5],
        [5],
        ['a'],
        [],
        encoded(np.eye(120)),
        encoded(np.eye(129)),
        encoded(np.eye(128))[:-1],
        encoded(np.eye(128)) + '0' * 9 + 'o',
        '',
        'ä',
        'o',
    ],
)
def test_run_lengths_that_do_not_fill_the_image_are_refused(folder, counts):
    """Those of 100 and 50 pixels: pycocotools leaves the other pixels as the memory was."""
    set_first_mask(folder, counts)
    message = message_of(with_masks())
    assert 'train.json have run lengths that do not fill the "size" of their mask: 0' in message
    assert not any('mask' in line for line in check_datasets(config(coco('train'))))


@pytest.mark.parametrize('size', ['x', [128], ['128', 128], [128, 128, 1]])
def test_a_mask_of_no_size_is_refused(folder, size):
    set_first_mask(folder, [128 * 128], size=size)
    assert 'do not fill the "size"' in message_of(with_masks())


def test_masks_that_mmdetection_does_not_decode_are_left_to_it(folder):
    set_first_mask(folder, {})
    assert check_datasets(with_masks())
    set_first_mask(folder, [100, 50])
    cfg = with_masks()
    cfg.train_dataloader.dataset.pipeline[1].poly2mask = False
    assert check_datasets(cfg)


def test_masks_of_another_size_than_the_image_is_annotated_with_are_a_warning(folder):
    set_first_mask(folder, [50 * 60], size=[50, 60])
    lines = check_datasets(with_masks())
    assert [line for line in lines if '1 boxes have masks of another "size"' in line]


def test_run_lengths_of_many_masks_are_checked_in_seconds():
    """COCO's train set has about 10,000, of 250 runs each."""
    pixels = np.random.default_rng(0).random((640, 480)) < 0.5
    pixels[8:] = False
    text = encoded(pixels)
    start = time.perf_counter()
    assert all(fills_its_size({'size': [640, 480], 'counts': text}) for _ in range(1000))
    assert len(text) > 1000 and time.perf_counter() - start < 2
