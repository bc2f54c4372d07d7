"""Which images and videos are found, and where their pictures go."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from surge_mm.deploy.predict.label_files import existing_label_file
from surge_mm.deploy.predict.media import Source, VideoWriter, find_sources
from surge_mm.utils.errors import WriteError


def test_pictures_replace_neither_images_nor_each_other_and_are_no_images_of_the_next_run(tmp_path):
    for name in ('a.jpg', 'sub/a.jpg', 'found/a.jpg', 'clip.avi', 'clip.mov', 'more/a_2.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    here, sub = str(tmp_path), str(tmp_path / 'sub')
    targets = [source.target for source in find_sources([here, f'{sub}/*'], here + '/found')]
    names = [str(target.relative_to(tmp_path / 'found')) for target in targets]
    assert names == ['a.jpg', 'clip.mp4', 'clip_2.mp4', 'more/a_2.jpg', 'sub/a.jpg', 'a_2.jpg']
    files = [f'{here}/{name}' for name in ('a.jpg', 'sub/a.jpg', 'more/a_2.jpg')]
    found = find_sources(files, f'{here}/other')
    assert [source.target.name for source in found] == ['a.jpg', 'a_3.jpg', 'a_2.jpg']
    (source,) = find_sources([f'{here}/a.jpg'], here)
    assert source.target == tmp_path / 'a_2.jpg'


def test_a_video_that_cannot_be_written_is_an_error_at_its_first_frame(tmp_path):
    (tmp_path / 'a.mp4').mkdir()
    writer = VideoWriter(tmp_path / 'a.mp4')
    with pytest.raises(WriteError, match=r'a\.mp4. could not be written, as on a full disk'):
        writer.write(np.zeros((32, 32, 3), np.uint8), 10)
    writer.close()


@pytest.mark.parametrize('rate', [10, 29.97, 23.976, 239.457, 959.7])
def test_a_video_has_the_rate_of_its_frames(tmp_path, rate):
    writer = VideoWriter(tmp_path / 'a.mp4')
    for _ in range(3):
        writer.write(np.zeros((32, 32, 3), np.uint8), rate)
    writer.close()
    written = cv2.VideoCapture(str(tmp_path / 'a.mp4')).get(cv2.CAP_PROP_FPS)
    assert written == pytest.approx(rate, rel=1e-3)


def test_an_existing_label_file_of_any_frame_is_found(tmp_path):
    source = Source('clip.avi', Path('clip.avi'), tmp_path / 'clip.mp4', moves=True)
    assert existing_label_file(source, str(tmp_path)) is None
    (tmp_path / 'labels').mkdir()
    for name in ('clip_x.txt', 'clip.txt', 'clipped_1.txt'):
        (tmp_path / 'labels' / name).touch()
    assert existing_label_file(source, str(tmp_path)) is None
    (tmp_path / 'labels/clip_17.txt').touch()
    assert existing_label_file(source, str(tmp_path)) == tmp_path / 'labels/clip_17.txt'
