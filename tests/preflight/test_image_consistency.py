import json
from pathlib import Path

import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, edit_json, message_of, voc
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import DatasetError


@pytest.mark.parametrize('layout', [coco, voc])
def test_unusable_images_are_named_with_their_number(folder, layout):
    images = folder / 'VOC2007/JPEGImages'
    (images / '000001.jpg').unlink()
    (images / '000002.jpg').write_bytes(b'')
    (images / '000003.jpg').write_bytes((images / '000003.jpg').read_bytes()[:3000])
    message = message_of(config(layout('train'), layout('val')))
    assert message.startswith('train_dataloader.dataset: 3 of 6 image files cannot be used:')
    for words in ('000001.jpg is missing', '000002.jpg is empty', '000003.jpg is truncated'):
        assert words in message


def test_of_many_unusable_images_the_first_few_are_named(folder):
    for image in (folder / 'VOC2007/JPEGImages').iterdir():
        image.write_bytes(b'')
    message = message_of(config(coco('train')))
    assert '6 of 6 image files' in message and 'and 1 more' in message
    assert message.count('is empty') == 5


def write_image(path: Path, size: tuple[int, int]) -> None:
    Image.new('RGB', size, 'grey').save(path)


@pytest.mark.parametrize('layout', [coco, voc])
def test_an_image_of_another_size_is_named_and_its_outer_boxes_do_not_arrive(folder, layout):
    write_image(folder / 'VOC2007/JPEGImages/000001.jpg', (40, 128))
    resize = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True}
    cfg = config(layout('train', pipeline=[*LOAD, resize, PACK]))
    lines = check_datasets(cfg)
    assert any('000001.jpg is 40x128, not 128x128' in line for line in lines)
    counted = [line for line in lines if 'less than a pixel inside their image' in line]
    assert len(counted) == 1 and 'FilterAnnotations, added to the pipeline' in counted[0]
    init_default_scope('mmdet')
    boxes = DATASETS.build(cfg.train_dataloader.dataset)[0]['data_samples'].gt_instances.bboxes
    annotations = json.loads((folder / 'annotations/train.json').read_text())['annotations']
    inside = [a['bbox'][0] < 40 for a in annotations if a['image_id'] == 1]
    assert 0 < len(boxes) == sum(inside) < len(inside)
    assert (boxes.widths > 0).all() and (boxes.heights > 0).all()


@pytest.mark.parametrize('layout', [coco, voc])
@pytest.mark.parametrize('short', [1, 10, 200])
def test_a_strip_that_resize_leaves_no_image_of_is_refused(folder, layout, short):
    write_image(folder / 'VOC2007/JPEGImages/000003.jpg', (20_000, short))
    resize = {'type': 'Resize', 'scale': (128, 128), 'keep_ratio': True}
    message = message_of(config(layout('train', pipeline=[*LOAD, resize, PACK])))
    assert f'000003.jpg of 20000 x {short} pixels ' in message
    resize['keep_ratio'] = False
    assert check_datasets(config(layout('train', pipeline=[*LOAD, resize, PACK])))


def test_large_images_are_named_with_the_memory_they_take(folder, monkeypatch):
    monkeypatch.setattr('surge_mm.preflight.image_consistency.LARGE_PIXELS', 128 * 128)
    write_image(folder / 'VOC2007/JPEGImages/000003.jpg', (3000, 2000))
    lines = check_datasets(config(voc('train')))
    large = [line for line in lines if '1 images of more than 16,384 pixels' in line]
    assert len(large) == 1 and large[0].endswith('000003.jpg')


@pytest.mark.parametrize('layout', [coco, voc])
def test_what_filter_cfg_leaves_out_is_counted_and_must_not_be_everything(folder, layout):
    def check(**filter_cfg) -> list[str]:
        return check_datasets(config(layout('train', filter_cfg=filter_cfg)))

    assert not any('filter_cfg' in line for line in check(filter_empty_gt=True, min_size=128))
    with pytest.raises(DatasetError, match='filter_cfg leaves none of the 6 images'):
        check(min_size=129)
    (folder / 'VOC2007/Annotations/000002.xml').write_text('<annotation/>')
    edit_json(
        folder / 'annotations/train.json',
        lambda c: c.update(annotations=[a for a in c['annotations'] if a['image_id'] != 2]),
    )
    lines = check(filter_empty_gt=True)
    assert any('leaves out 1 of 6 images (1 without a box of the class list' in x for x in lines)
    init_default_scope('mmdet')
    assert len(DATASETS.build(layout('train', filter_cfg={'filter_empty_gt': True}))) == 5


def test_the_decoder_of_the_pipeline_judges_the_images(folder):
    path = folder / 'VOC2007/JPEGImages/000001.jpg'
    Image.open(path).save(path, 'TGA')
    assert '000001.jpg is truncated or damaged' in message_of(config(coco('train')))
    load = {'type': 'LoadImageFromFile', 'imdecode_backend': 'pillow'}
    assert check_datasets(config(coco('train', pipeline=[load, LOAD[1], PACK])))
