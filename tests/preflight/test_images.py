import io
import warnings

import numpy as np
import pytest
from PIL import Image

from surge_mm.preflight import images
from surge_mm.preflight.images import measure_images


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


def test_each_defect_has_its_words(tmp_path):
    path = tmp_path / 'image.jpg'
    assert measured(path) == 'is missing'
    assert measured(tmp_path) == 'is a folder'
    assert measured(path, b'') == 'is empty'
    assert measured(path, encoded('JPEG')[:900]).startswith('is truncated or damaged (JPEG')
    assert measured(path, b'<html>404</html>').startswith('is not a whole image')


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
    monkeypatch.setattr(images, 'LARGE_PIXELS', 1000)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert measured(tmp_path / 'image.jpg', encoded('PNG')) == (64, 48)
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
        assert measured(tmp_path / 'image.jpg', encoded('PNG')) == (64, 48)
        broken = measured(tmp_path / 'image.jpg', encoded('PNG')[:-500])
    assert broken == 'is damaged, or has more pixels than cv2 decodes'
