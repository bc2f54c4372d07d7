"""Label files in the format of YOLO, whose readers pair images and labels by the stem of their names."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surge_mm.deploy.predict.media import Source
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError


def label_file(source: Source, out: str, frame: int | None = None) -> Path:
    """Return the file of the labels of an image, or of a frame of a video: that of its picture, below ``labels``.

    Args:
        source (Source): the image, video or camera.
        out (str): folder of the pictures.
        frame (int, optional): number of the frame. Defaults to None, for an image.
    """
    picture = source.target.relative_to(out).with_suffix('')
    return Path(out, 'labels', f'{picture}.txt' if frame is None else f'{picture}_{frame}.txt')


def classes_file(out: str) -> Path:
    """Return the file with the names of the classes."""
    return Path(out, 'labels', 'classes.txt')


def check_label_files(sources: Sequence[Source], out: str) -> None:
    """Check that each image, and each frame of a video, has a label file of its own.

    Args:
        sources (Sequence[Source]): images, videos and cameras.
        out (str): folder of the pictures.

    Raises:
        LaunchError: if two have one, as ``a.jpg`` and ``a.png``, or an image is called ``classes``.
    """
    owners = {classes_file(out): 'the names of the classes'}
    for source in sorted(sources, key=lambda source: source.moves):
        if not source.moves:
            path = label_file(source, out)
            other = owners.setdefault(path, repr(source.name))
            taken = path if other != repr(source.name) else None
        else:
            taken = next((path for path in owners if _is_of_frame(path, source, out)), None)
        if taken:
            raise LaunchError(
                f'--save-txt: {source.name!r} and {owners[taken]} would have one label file, {str(taken)!r}: rename '
                'one of them, or run the tool on each with an --out of its own'
            )


def existing_label_file(source: Source, out: str) -> Path | None:
    """Return a label file of an image, or of any frame of a video or camera, that exists; None if there is none.

    Args:
        source (Source): the image, video or camera.
        out (str): folder of the pictures.
    """
    path = label_file(source, out)
    if not source.moves:
        return path if path.exists() else None
    return next(iter(_frame_files(source, out)), None)


def remove_label_files(source: Source, out: str, frames: int) -> None:
    """Remove the label files of frames that a video no longer has, left by an earlier run; not those of pictures.

    Args:
        source (Source): the video or camera.
        out (str): folder of the pictures.
        frames (int): number of frames of this run.
    """
    written = {label_file(source, out, frame) for frame in range(frames)}
    for path in _frame_files(source, out):
        picture = Path(out, path.relative_to(Path(out, 'labels')))
        if path not in written and not any(picture.parent.glob(f'{glob.escape(picture.stem)}.*')):
            path.unlink()


def _frame_files(source: Source, out: str) -> list[Path]:
    there = sorted(label_file(source, out).parent.glob('*.txt'))
    return [path for path in there if _is_of_frame(path, source, out)]


def _is_of_frame(path: Path, source: Source, out: str) -> bool:
    stem = str(label_file(source, out).with_suffix(''))
    return re.fullmatch(re.escape(stem) + r'_\d+\.txt', str(path)) is not None


def label_lines(result: dict[str, Any]) -> str:
    """Return what was found in an image as the text of its label file.

    Args:
        result (dict): ``height``, ``width``, and ``found`` as :meth:`Predictor.describe` returns it.

    Returns:
        str: for each box its label, center, width and height in parts of the image; for each class of a classifier its
        score and name; for each class of a segmentor its share of the pixels and name.
    """
    lines = []
    for one in result['found']:
        if 'bbox' in one:
            x1, y1, x2, y2 = one['bbox']
            width, height = result['width'], result['height']
            center = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            box = (*center, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(f'{one["label"]} ' + ' '.join(f'{value:.6f}' for value in box))
        else:
            lines.append(f'{value_of(one):.4f} {one["class"]}')
    return ''.join(f'{line}\n' for line in lines)


def write_classes(out: str, classes: Sequence[str], overwrite: bool) -> None:
    """Write the names of the classes, one a line, to ``labels/classes.txt``. Print a warning if it has others.

    Args:
        out (str): folder of the pictures.
        classes (Sequence[str]): the names. Nothing is written if there are none.
        overwrite (bool): whether to replace a file with other names.
    """
    path = classes_file(out)
    text = ''.join(f'{name}\n' for name in classes)
    if text and path.exists() and not overwrite and path.read_text(errors='replace') != text:
        print(f'warning: {str(path)!r} has other classes, and is kept; --overwrite replaces it')
    elif text:
        write_atomically(path, text.encode())


def value_of(one: dict[str, Any]) -> float:
    """Return the score of a class, or the share of its pixels."""
    return one['score'] if 'score' in one else one['share']
