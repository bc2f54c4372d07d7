"""Label files of the frames of videos."""

from pathlib import Path

from surge_mm.deploy.predict.label_files import label_file, remove_label_files
from surge_mm.deploy.predict.media import Source


def test_frames_of_an_earlier_longer_video_are_removed_and_nothing_else(tmp_path):
    out = str(tmp_path)
    film = Source('film.avi', Path('film.avi'), tmp_path / 'film.mp4', moves=True)
    image = Source('film_7.jpg', Path('film_7.jpg'), tmp_path / 'film_7.jpg')
    (tmp_path / 'labels').mkdir()
    for path in [label_file(film, out, frame) for frame in range(5)] + [label_file(image, out)]:
        path.touch()
    (tmp_path / 'film_7.jpg').touch()
    others = [tmp_path / 'labels' / name for name in ('film_x.txt', 'my_film_4.txt', 'classes.txt')]
    for path in others:
        path.touch()
    remove_label_files(film, out, frames=2)
    kept = {label_file(film, out, 0), label_file(film, out, 1), label_file(image, out), *others}
    assert set((tmp_path / 'labels').iterdir()) == kept
