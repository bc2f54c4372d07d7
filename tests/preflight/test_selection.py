"""Counts are of the images that filter_cfg and indices leave, as MMDetection leaves them."""

import json

import pytest
from helpers.digits_configs import coco, config, edit_json, message_of, voc
from mmengine.registry import DATASETS, DefaultScope

from surge_mm.preflight.datasets import check_datasets

LAYOUTS = pytest.mark.parametrize('layout', [coco, voc])


def empty_first(folder):
    """Remove the boxes of the first image of the train split."""

    def change(content):
        first = content['images'][0]['id']
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] != first]

    edit_json(folder / 'annotations/train.json', change)
    xml = folder / 'VOC2007/Annotations/000001.xml'
    start, *_, end = xml.read_text().split('<object>')
    xml.write_text(start + end.split('</object>')[1])


@LAYOUTS
@pytest.mark.parametrize(
    ('changes', 'images'),
    [
        ({}, '6 images'),
        ({'indices': 2}, '2 of 6 images'),
        ({'indices': -1}, '1 of 6 images'),
        ({'indices': [5, 0, 5]}, '2 of 6 images'),
        ({'indices': 10}, '6 images'),
        ({'filter_cfg': {'filter_empty_gt': True}}, '5 of 6 images'),
        ({'filter_cfg': {'filter_empty_gt': True}, 'test_mode': True}, '6 images'),
        ({'filter_cfg': {'filter_empty_gt': True}, 'indices': [0]}, '1 of 6 images'),
        ({'filter_cfg': {'filter_empty_gt': False, 'min_size': 128}}, '6 images'),
    ],
)
def test_the_images_and_boxes_that_mmdetection_uses_are_counted(folder, layout, changes, images):
    empty_first(folder)
    dataset = layout('train', **changes)
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = DATASETS.build({**dataset, 'pipeline': []})
    used = {info['img_id']: info for info in map(built.get_data_info, range(len(built)))}
    boxes = sum(len(info['instances']) for info in used.values())
    line = check_datasets(config(dataset))[0]
    assert images.startswith(str(len(used)))
    assert line.startswith(f'train_dataloader.dataset: {images}, {boxes} boxes of ')


@LAYOUTS
def test_files_of_images_that_are_not_used_may_be_missing(folder, layout):
    (folder / 'VOC2007/JPEGImages/000006.jpg').unlink()
    assert check_datasets(config(layout('train', indices=5)))
    assert '000006.jpg is missing' in message_of(config(layout('train')))


@LAYOUTS
def test_a_filter_that_leaves_no_image_is_refused_by_key(folder, layout):
    message = message_of(config(layout('train', filter_cfg={'min_size': 129})))
    assert message.startswith("train_dataloader.dataset.filter_cfg={'min_size': 129} leaves out")
    assert 'all 6 images of set/' in message and '6 have a side below min_size, 0 have' in message


def test_a_filter_of_images_without_boxes_that_leaves_none_is_refused_by_key(folder):
    edit_json(folder / 'annotations/train.json', lambda c: c['annotations'].clear())
    message = message_of(config(coco('train', filter_cfg={'filter_empty_gt': True})))
    assert '0 have a side below min_size, 6 have no annotation of the classes' in message


@LAYOUTS
@pytest.mark.parametrize(
    ('indices', 'words'),
    [
        (0, '=0 selects none of 6 images'),
        ([], '=[] selects none of 6 images'),
        ([0, 6], ': list index out of range. There are 6 images'),
        ('12', ': '),
    ],
)
def test_indices_of_no_image_are_refused(folder, layout, indices, words):
    message = message_of(config(layout('train', indices=indices)))
    assert message.startswith(f'train_dataloader.dataset.indices{words}')


def test_masks_of_images_that_are_not_used_are_not_needed(folder):
    def change(content):
        for annotation in content['annotations']:
            annotation['segmentation'] = {'size': [128, 128], 'counts': [128 * 128]}
            if annotation['image_id'] == first:
                annotation['segmentation'] = {'size': [128, 128], 'counts': [5]}

    path = folder / 'annotations/train.json'
    first = json.loads(path.read_text())['images'][0]['id']
    edit_json(path, change)
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    assert check_datasets(config(coco('train', indices=-5, pipeline=[load])))
    message = message_of(config(coco('train', indices=5, pipeline=[load])))
    assert 'do not fill the "size" of their mask: 000001.jpg' in message
