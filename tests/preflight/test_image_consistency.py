import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, follow_advice, voc
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from surge_mm.preflight import image_consistency
from surge_mm.preflight.datasets import inspect_datasets
from surge_mm.preflight.image_consistency import (
    check_images,
    check_other_images,
    measure_images,
)


def check(cfg: Config) -> tuple[list[str], dict[str, str]]:
    return check_images(inspect_datasets(cfg, ['train', 'val']).leaves, 'mmdet')


@pytest.mark.parametrize('layout', [coco, voc])
def test_unusable_images_are_named(folder, layout):
    images = folder / 'VOC2007/JPEGImages'
    (images / '000001.jpg').unlink()
    (images / '000002.jpg').write_bytes(b'')
    (images / '000003.jpg').write_bytes((images / '000003.jpg').read_bytes()[:-200])
    lines, broken = check(config(layout('train'), layout('val')))
    assert lines == []
    assert broken == {
        'set/VOC2007/JPEGImages/000001.jpg': 'is missing',
        'set/VOC2007/JPEGImages/000002.jpg': 'is empty',
        'set/VOC2007/JPEGImages/000003.jpg': 'is truncated or damaged (JPEG that cv2 does not decode)',
    }


def write_image(path: Path, size: tuple[int, int]) -> None:
    Image.new('RGB', size, 'gray').save(path)


@pytest.mark.parametrize('layout', [coco, voc])
def test_an_image_of_another_size_is_named_with_the_step_that_leaves_out_its_outer_boxes(
    folder, layout
):
    write_image(folder / 'VOC2007/JPEGImages/000001.jpg', (40, 128))
    resize = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True}
    cfg = config(layout('train', pipeline=[*LOAD, resize, PACK]))
    lines, _ = check(cfg)
    assert any('000001.jpg is 40x128, not 128x128' in line for line in lines)
    counted = [line for line in lines if 'less than a pixel inside their decoded image' in line]
    assert len(counted) == 1 and 'at index 3 of train_dataloader.dataset.pipeline' in counted[0]
    assert follow_advice(lines, cfg) == 1
    init_default_scope('mmdet')
    boxes = DATASETS.build(cfg.train_dataloader.dataset)[0]['data_samples'].gt_instances.bboxes
    annotations = json.loads((folder / 'annotations/train.json').read_text())['annotations']
    inside = [a['bbox'][0] < 40 for a in annotations if a['image_id'] == 1]
    assert 0 < len(boxes) == sum(inside) < len(inside)
    assert (boxes.widths > 0).all() and (boxes.heights > 0).all()
    assert not any(' insert ' in line for line in check(cfg)[0])


def test_masks_of_an_image_of_another_size_are_unusable(folder):
    write_image(folder / 'VOC2007/JPEGImages/000001.jpg', (128, 127))
    load = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
    path = folder / 'annotations/train.json'
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        annotation['segmentation'] = [[1, 1, 9, 1, 9, 9]]
    path.write_text(json.dumps(content))
    _, broken = check(config(coco('train', pipeline=[LOAD[0], load, PACK])))
    (defect,) = broken.values()
    assert defect == 'has masks of another size: it is 128x127, not 128x128'


@pytest.mark.parametrize('layout', [coco, voc])
@pytest.mark.parametrize('short', [1, 10, 200])
def test_a_strip_that_resize_leaves_no_image_of_is_unusable(folder, layout, short):
    write_image(folder / 'VOC2007/JPEGImages/000003.jpg', (20_000, short))
    resize = {'type': 'Resize', 'scale': (128, 128), 'keep_ratio': True}
    (defect,) = check(config(layout('train', pipeline=[*LOAD, resize, PACK])))[1].values()
    assert defect.startswith(f'of 20000 x {short} pixels ')
    resize['keep_ratio'] = False
    assert check(config(layout('train', pipeline=[*LOAD, resize, PACK])))[1] == {}


def test_large_images_are_named_with_their_memory(folder, monkeypatch):
    monkeypatch.setattr('surge_mm.preflight.image_consistency.LARGE_PIXELS', 128 * 128)
    write_image(folder / 'VOC2007/JPEGImages/000003.jpg', (3000, 2000))
    lines, _ = check(config(voc('train')))
    large = [line for line in lines if '1 images of more than 16,384 pixels' in line]
    assert len(large) == 1 and large[0].endswith('000003.jpg')


def test_images_are_decoded_by_the_decoder_of_the_pipeline(folder):
    path = folder / 'VOC2007/JPEGImages/000001.jpg'
    Image.open(path).save(path, 'TGA')
    assert 'is truncated or damaged' in check(config(coco('train')))[1][str(path)]
    load = {'type': 'LoadImageFromFile', 'imdecode_backend': 'pillow'}
    assert check(config(coco('train', pipeline=[load, LOAD[1], PACK])))[1] == {}


def test_images_of_a_classification_set_are_decoded(tmp_path):
    for name in ('cat/1.png', 'dog/2.png'):
        (tmp_path / name).parent.mkdir()
        write_image(tmp_path / name, (8, 8))
    (tmp_path / 'dog/2.png').write_bytes(b'')
    dataset = Config(
        {'type': 'CustomDataset', 'data_root': str(tmp_path), 'with_label': True, 'pipeline': []}
    )
    assert check_other_images('key', dataset._cfg_dict, 'mmpretrain') == {
        str(tmp_path / 'dog/2.png'): 'is empty'
    }


def encoded(kind: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def measured(path, content: bytes | None = None, decoder: str = 'cv2') -> tuple[int, int] | str:
    if content is not None:
        path.write_bytes(content)
    sizes, defects = measure_images([str(path)], decoder)
    return (sizes | defects)[str(path)]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF'])
def test_whole_images_have_a_size_whatever_their_suffix(tmp_path, kind):
    assert measured(tmp_path / 'image.jpg', encoded(kind)) == (64, 48)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP'])
@pytest.mark.parametrize('share', [0.3, 0.9])
def test_truncated_images_are_found(tmp_path, kind, share):
    content = encoded(kind)
    assert isinstance(measured(tmp_path / 'image.jpg', content[: int(share * len(content))]), str)


def test_a_truncated_jpeg_is_found_behind_its_thumbnail_and_before_zeros(tmp_path):
    content = encoded('JPEG', exif=b'Exif\0\0' + encoded('JPEG', quality=20))
    assert measured(tmp_path / 'image.jpg', content) == (64, 48)
    cut = content[: int(0.9 * len(content))]
    assert 'truncated' in measured(tmp_path / 'image.jpg', cut)
    assert measured(tmp_path / 'image.jpg', cut + bytes(9000)) == 'is truncated'


@pytest.mark.parametrize('trailing', [1, 3000, 100_000])
def test_bytes_after_the_end_of_a_jpeg_are_no_defect(tmp_path, trailing):
    assert measured(tmp_path / 'image.jpg', encoded('JPEG') + bytes(trailing)) == (64, 48)


def test_a_turned_photograph_is_measured_as_it_is_loaded(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert measured(tmp_path / 'image.jpg', encoded('JPEG', exif=exif)) == (48, 64)


def test_each_defect_has_its_message(tmp_path):
    path = tmp_path / 'image.jpg'
    assert measured(path) == 'is missing'
    assert measured(tmp_path) == 'is a folder'
    assert measured(path, b'') == 'is empty'
    assert measured(path, encoded('JPEG')[:900]).startswith('is truncated or damaged (JPEG')
    assert measured(path, b'<html>404</html>').startswith('is not an image')


def test_a_damaged_header_is_found_although_both_ends_are_whole(tmp_path):
    content = bytearray(encoded('JPEG'))
    table = content.index(b'\xff\xc4')
    content[table + 5 : table + 21] = b'\xff' * 16
    assert measured(tmp_path / 'image.jpg', bytes(content)).startswith('is truncated or damaged')


def test_the_decoder_of_the_pipeline_judges(tmp_path):
    targa = encoded('TGA')
    assert isinstance(measured(tmp_path / 'image.jpg', targa), str)
    assert measured(tmp_path / 'image.jpg', targa, decoder='pillow') == (64, 48)


def test_an_image_beyond_pillows_limit_is_measured_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    monkeypatch.setattr(image_consistency, 'LARGE_PIXELS', 1000)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert measured(tmp_path / 'image.jpg', encoded('PNG')) == (64, 48)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
        assert measured(tmp_path / 'image.jpg', encoded('PNG')) == (64, 48)
        broken = measured(tmp_path / 'image.jpg', encoded('PNG')[:-500])
    assert broken == 'is damaged, or has more pixels than cv2 decodes'
