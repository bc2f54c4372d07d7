import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.digits_configs import LOAD, PACK, coco, config, follow_advice, voc
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from surge_mm.preflight.datasets import Inspection
from surge_mm.preflight.image_consistency import check_images, measure

UNDECODED = 'is damaged, or no image that cv2 decodes'


def check(cfg: Config) -> tuple[list[str], dict[str, str]]:
    lines, broken = [], {}
    for key, dataset in Inspection(cfg, ['train', 'val']).datasets:
        more_lines, more_broken = check_images(key, dataset, 'mmdet')
        lines += more_lines
        broken |= more_broken
    return lines, broken


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
        'set/VOC2007/JPEGImages/000002.jpg': UNDECODED,
        'set/VOC2007/JPEGImages/000003.jpg': UNDECODED,
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
    assert len(lines) == 1 and 'at index 3 of train_dataloader.dataset.pipeline' in lines[0]
    assert follow_advice(lines, cfg) == 1
    init_default_scope('mmdet')
    boxes = DATASETS.build(cfg.train_dataloader.dataset)[0]['data_samples'].gt_instances.bboxes
    annotations = json.loads((folder / 'annotations/train.json').read_text())['annotations']
    inside = [a['bbox'][0] < 40 for a in annotations if a['image_id'] == 1]
    assert 0 < len(boxes) == sum(inside) < len(inside)
    assert (boxes.widths > 0).all() and (boxes.heights > 0).all()
    assert not any(' insert ' in line for line in check(cfg)[0])


def test_images_are_decoded_by_the_decoder_of_the_pipeline(folder):
    path = folder / 'VOC2007/JPEGImages/000001.jpg'
    Image.open(path).save(path, 'TGA')
    assert check(config(coco('train')))[1][str(path)] == UNDECODED
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
    broken = {str(tmp_path / 'dog/2.png'): UNDECODED}
    assert check_images('key', dataset._cfg_dict, 'mmpretrain') == ([], broken)


def encoded(kind: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def measured(path, content: bytes | None = None, decoder: str = 'cv2') -> tuple[int, int] | str:
    if content is not None:
        path.write_bytes(content)
    return measure(str(path), decoder)


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
    assert isinstance(measured(tmp_path / 'image.jpg', cut), str)
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
    assert measured(path, b'') == UNDECODED
    assert measured(path, b'<html>404</html>') == UNDECODED


def test_a_damaged_header_is_found_although_both_ends_are_whole(tmp_path):
    content = bytearray(encoded('JPEG'))
    table = content.index(b'\xff\xc4')
    content[table + 5 : table + 21] = b'\xff' * 16
    assert measured(tmp_path / 'image.jpg', bytes(content)) == UNDECODED


def test_the_decoder_of_the_pipeline_judges(tmp_path):
    targa = encoded('TGA')
    assert isinstance(measured(tmp_path / 'image.jpg', targa), str)
    assert measured(tmp_path / 'image.jpg', targa, decoder='pillow') == (64, 48)
