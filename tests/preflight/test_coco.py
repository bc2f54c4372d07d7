import json
import math
import os

import numpy as np
import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, edit_json, message_of
from mmengine.config import Config
from pycocotools import mask

from surge_mm.datasets.digits import CLASSES
from surge_mm.preflight.datasets import check_datasets


def test_another_order_of_classes_than_the_coco_files_is_a_warning(folder):
    lines = check_datasets(config(coco('train', metainfo={'classes': CLASSES[::-1]})))
    assert any(
        'numbers the classes in the order of set/annotations/train.json' in line for line in lines
    )
    assert not any('numbers the classes' in line for line in check_datasets(config(coco('train'))))


def damage_bbox(content):
    content['annotations'][0]['bbox'] = [1, 2, 3]


def damage_reference(content):
    content['annotations'][0]['image_id'] = 999


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.pop('categories'), '"images" and "categories" must be lists'),
        (lambda c: c['annotations'][0].pop('area'), 'annotation (id 1) has no "area"'),
        (lambda c: c['images'][1].pop('file_name'), 'image (id 2) has no "file_name"'),
        (lambda c: c['annotations'][1].update(id=1), 'annotation (id 1) has the id of another'),
        (lambda c: c['categories'][1].update(name='0'), 'categories of the same name: 0'),
        (damage_bbox, 'annotation (id 1) has bbox=[1, 2, 3], not [x, y, width, height]'),
        (damage_reference, 'annotation 1 refers to image 999'),
        (lambda c: c['annotations'].clear(), 'has no annotation to train on'),
    ],
)
def test_a_malformed_coco_file_is_named_with_what_it_lacks(folder, change, words):
    edit_json(folder / 'annotations/train.json', change)
    message = message_of(config(coco('train')))
    assert 'set/annotations/train.json' in message and words in message


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
    assert message.startswith('set/annotations/train.json: ')
    assert f'{key}={json.dumps(value)}, not ' in message


def test_image_ids_of_two_kinds_are_refused(folder):
    def change(content):
        content['images'][0]['id'] = 'first'

    edit_json(folder / 'annotations/train.json', change)
    assert 'some image ids are text and some numbers' in message_of(config(coco('train')))


def test_annotations_that_are_no_list_are_refused(folder):
    edit_json(folder / 'annotations/train.json', lambda c: c.update(annotations=None))
    assert '"annotations" are not a list' in message_of(config(coco('train')))


def test_json_nested_beyond_pythons_stack_is_refused(folder):
    (folder / 'annotations/train.json').write_text('[' * 100_000)
    assert 'is nested too deeply' in message_of(config(coco('train')))


def test_a_pipe_in_the_place_of_the_annotations_is_not_waited_for(folder):
    (folder / 'annotations/train.json').unlink()
    os.mkfifo(folder / 'annotations/train.json')
    assert 'it is a pipe or device' in message_of(config(coco('train')))


def with_masks() -> Config:
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    return config(coco('train', pipeline=[LOAD[0], load, PACK]))


def test_masks_are_asked_for_only_by_a_pipeline_that_loads_them(folder):
    assert check_datasets(config(coco('train')))
    assert 'pipeline loads masks, but ' in message_of(with_masks())
    assert 'annotation 1 has no "segmentation"' in message_of(with_masks())


@pytest.mark.parametrize('compressed', [False, True])
def test_run_lengths_must_fill_the_image(folder, compressed):
    def write(columns: int) -> None:
        pixels = np.random.default_rng(0).random((128, columns)) < 0.1
        counts = [100, 128 * columns - 100]
        if compressed:
            counts = mask.encode(np.asfortranarray(pixels, np.uint8))['counts'].decode()

        def change(content):
            for annotation in content['annotations']:
                annotation['segmentation'] = {'size': [128, 128], 'counts': counts}

        edit_json(folder / 'annotations/train.json', change)

    write(columns=128)
    assert check_datasets(with_masks())
    write(columns=127)
    assert 'annotation 1 has a segmentation of malformed run lengths' in message_of(with_masks())


def test_floats_beyond_the_integers_of_pytorch_are_accepted(folder):
    edit_json(
        folder / 'annotations/train.json',
        lambda c: c['annotations'][0].update(bbox=[-1e30, -1e30, 2e30, 2e30]),
    )
    assert check_datasets(config(coco('train')))
