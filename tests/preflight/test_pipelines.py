import json
from pathlib import Path

import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, edit_json, follow_advice, voc
from mmengine.registry import DATASETS, init_default_scope

from surge_mm.preflight.datasets import check_datasets


def flatten_first_box(folder: Path, image_id: int) -> str:
    """Give an image's first object zero width in the VOC layout; return its name."""
    path = folder / f'VOC2007/Annotations/{image_id:06d}.xml'
    text = path.read_text()
    xmin = text.split('<xmin>')[1].split('<')[0]
    xmax = text.split('<xmax>')[1].split('<')[0]
    path.write_text(text.replace(f'<xmax>{xmax}<', f'<xmax>{xmin}<', 1))
    return text.split('<name>')[1].split('<')[0]


def boxes_that_arrive(dataset: dict) -> int:
    init_default_scope('mmdet')
    built = DATASETS.build(dataset)
    samples = [built[n]['data_samples'] for n in range(len(built))]
    boxes = [s.gt_instances.bboxes for s in samples]
    assert all((b.widths > 0).all() and (b.heights > 0).all() for b in boxes)
    return sum(len(b) for b in boxes)


def test_voc_boxes_of_zero_size_are_named_with_the_step_that_leaves_them_out(folder):
    names = {i: flatten_first_box(folder, i) for i in (2, 5, 8)}
    cfg = config(voc('train'), voc('val'))
    lines = check_datasets(cfg)
    text = '\n'.join(lines)
    for number in (2, 1):
        assert f'{number} boxes have less than a pixel inside their image; to leave them' in text
    assert all(f'{i:06d}.jpg {name}' in text for i, name in names.items())
    assert follow_advice(lines, cfg) == 2
    for split, flat in (('train', 2), ('val', 1)):
        content = json.loads((folder / f'annotations/{split}.json').read_text())
        arriving = boxes_that_arrive(cfg[f'{split}_dataloader'].dataset)
        assert arriving == len(content['annotations']) - flat
    assert ' insert ' not in '\n'.join(check_datasets(cfg))


def test_an_image_whose_only_boxes_have_zero_size_still_loads(folder):
    xml = folder / 'VOC2007/Annotations/000007.xml'
    size, _, rest = xml.read_text().partition('<object>')
    xml.write_text(size + '<object>' + rest.split('</object>')[0] + '</object></annotation>')
    flatten_first_box(folder, 7)
    cfg = config(voc('train'), voc('val'))
    assert follow_advice(check_datasets(cfg), cfg) == 1
    assert boxes_that_arrive(cfg.val_dataloader.dataset) > 0


@pytest.mark.parametrize(
    'pipeline',
    [
        [*LOAD, {'type': 'FilterAnnotations', 'min_gt_bbox_wh': (0, 0)}, PACK],
        [LOAD[0], PACK],
    ],
)
def test_no_step_is_advised_where_boxes_of_zero_size_are_left_out(folder, pipeline):
    flatten_first_box(folder, 2)
    text = '\n'.join(check_datasets(config(voc('train', pipeline=pipeline))))
    assert 'less than a pixel' in text and ' insert ' not in text


@pytest.mark.parametrize('layout', [coco, voc])
def test_boxes_outside_of_the_annotated_image_are_named_with_the_step_behind_resize(folder, layout):
    def move(content):
        content['annotations'][0]['bbox'] = [127.5, 3, 20, 20]

    edit_json(folder / 'annotations/train.json', move)
    xml = folder / 'VOC2007/Annotations/000001.xml'
    text = xml.read_text()
    for key, value in (('xmin', 129), ('xmax', 149)):
        old = text.split(f'<{key}>')[1].split('<')[0]
        text = text.replace(f'<{key}>{old}<', f'<{key}>{value}<', 1)
    xml.write_text(text)
    resize = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True}
    cfg = config(layout('train', pipeline=[*LOAD, resize, PACK]))
    lines = check_datasets(cfg)
    assert any('1 boxes have less than a pixel inside their image' in line for line in lines)
    assert follow_advice(lines, cfg) == 1
    boxes_that_arrive(cfg.train_dataloader.dataset)


def test_coco_boxes_of_zero_size_are_named_counted_and_left_out_by_the_host(folder):
    def flatten(content):
        content['annotations'][0]['bbox'][2] = 0
        content['annotations'][1]['bbox'][3] = -4

    for split in ('train', 'val'):
        edit_json(folder / f'annotations/{split}.json', flatten)
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    cfg = config(coco('train'), coco('val'), val_evaluator=evaluator)
    text = '\n'.join(check_datasets(cfg))
    words = '2 boxes of zero size, outside of the image or with "ignore" are left out by MMDetection: 00000'
    assert text.count(words) == 2
    for split in ('train', 'val'):
        total = len(json.loads((folder / f'annotations/{split}.json').read_text())['annotations'])
        assert boxes_that_arrive(cfg[f'{split}_dataloader'].dataset) == total - 2
