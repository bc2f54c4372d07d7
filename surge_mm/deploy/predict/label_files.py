"""Label files in the format of YOLO, whose readers pair images and labels by the stem of their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surge_mm.deploy.predict.media import Source
from surge_mm.utils.atomic_write import write_atomically

CLASSES = 'classes'
"""Stem of the file with the names of the classes."""


def label_names(sources: Sequence[Source], out: str) -> list[Path]:
    """Return the path of the labels of each source, without the ending ``.txt``.

    It is that of the image below ``labels`` in ``out``. If the stem, or that of a frame of a video, is also the stem of
    another image, or ``classes``, the whole name of the picture is used.

    Args:
        sources (Sequence[Source]): images, videos and cameras.
        out (str): folder of the pictures.
    """
    targets = [source.target.relative_to(out) for source in sources]
    stems = [
        (target if source.moves else source.relative).with_suffix('')
        for source, target in zip(sources, targets, strict=True)
    ]
    named = zip(sources, stems, strict=True)
    files = {(stem, Path(source.name).resolve()) for source, stem in named if not source.moves}
    images = Counter([Path(CLASSES), *(stem for stem, _ in files)])
    videos = Counter(stem for source, stem in zip(sources, stems, strict=True) if source.moves)

    def clashes(name: Path, moves: bool, own: int) -> bool:
        if not moves:
            return images[name] > own
        frames = re.compile(re.escape(str(name)) + r'_\d+')
        return videos[name] > own or any(frames.fullmatch(str(image)) for image in images)

    names = []
    for source, stem, target in zip(sources, stems, targets, strict=True):
        name, own = stem, 1
        while clashes(name, source.moves, own):
            name, own = (target if own else Path(f'{name}_')), 0
        names.append(Path(out, 'labels', name))
    return names


def label_file(name: Path, frame: int | None = None) -> Path:
    """Return the file of the labels of an image, or of a frame of a video.

    Args:
        name (Path): a path of :func:`label_names`.
        frame (int, optional): number of the frame. Defaults to None, for an image.
    """
    return Path(f'{name}.txt' if frame is None else f'{name}_{frame}.txt')


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
    path = label_file(Path(out, 'labels', CLASSES))
    text = ''.join(f'{name}\n' for name in classes)
    if text and path.exists() and not overwrite and path.read_text(errors='replace') != text:
        print(f'warning: {str(path)!r} has other classes, and is kept; --overwrite replaces it')
    elif text:
        write_atomically(path, text.encode())


def value_of(one: dict[str, Any]) -> float:
    """Return the score of a class, or the share of its pixels."""
    return one['score'] if 'score' in one else one['share']
