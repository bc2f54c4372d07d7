import io
import time

import numpy as np
import pytest
from PIL import Image

from surge_mm.datasets import files
from surge_mm.datasets.files import check_each, image_defect


def encoded(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF'])
def test_whole_images_have_no_defect_whatever_their_suffix(tmp_path, kind):
    path = tmp_path / 'image.jpg'
    path.write_bytes(encoded(kind))
    assert image_defect(str(path)) is None


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP'])
@pytest.mark.parametrize('share', [0.3, 0.9])
def test_truncated_images_are_found(tmp_path, kind, share):
    content = encoded(kind)
    path = tmp_path / 'image.jpg'
    path.write_bytes(content[: int(share * len(content))])
    assert image_defect(str(path)) is not None


@pytest.mark.parametrize('trailing', [1, 3000, 100_000])
def test_bytes_after_the_end_of_a_jpeg_are_no_defect(tmp_path, trailing):
    path = tmp_path / 'image.jpg'
    path.write_bytes(encoded('JPEG') + bytes(trailing))
    assert image_defect(str(path)) is None


def test_each_defect_has_its_words(tmp_path):
    for name, content in {
        'empty.jpg': b'',
        'half.jpg': encoded('JPEG')[:2000],
        'text.jpg': b'<html>404</html>',
    }.items():
        (tmp_path / name).write_bytes(content)
    assert image_defect(str(tmp_path / 'none.jpg')) == 'is missing'
    assert image_defect(str(tmp_path / 'empty.jpg')) == 'is empty'
    assert image_defect(str(tmp_path / 'half.jpg')) == 'is truncated'
    assert image_defect(str(tmp_path / 'text.jpg')).startswith('is not a whole image')
    assert image_defect(str(tmp_path)).startswith('cannot be read')


def test_check_each_keeps_the_order_and_shows_no_bar_for_quick_work(capsys):
    paths = [str(n) for n in range(100)]
    assert check_each(int, paths, 'numbers') == [(path, int(path)) for path in paths]
    assert capsys.readouterr().out == ''


def test_check_each_shows_a_bar_when_it_takes_a_while(monkeypatch, capsys):
    monkeypatch.setattr(files, 'SECONDS_WITHOUT_BAR', 0.01)
    check_each(lambda _: time.sleep(0.02), ['a', 'b'], 'sleepers')
    assert 'sleepers' in capsys.readouterr().out
