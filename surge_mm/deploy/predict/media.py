"""Images, videos and cameras that a user names on the command line."""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmcv import imread

from surge_mm.utils.errors import LaunchError, WriteError
from surge_mm.utils.files import file_defect

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
FRAMES_PER_SECOND = 25
"""Of a camera or file that does not name its rate."""


class Unusable(Exception):
    """A file that is no image or video, or on which the model does not run."""


class Source(NamedTuple):
    """An image, a video, a camera or a stream.

    Attributes:
        name (str): path of a file, number of a camera, or address of a stream.
        relative (Path): path of a file below the folder or pattern that contains it.
        target (Path): file for its picture or video.
        is_file (bool): False for a camera or a stream, which need not end.
        moves (bool): whether it has several frames.
    """

    name: str
    relative: Path
    target: Path
    is_file: bool = True
    moves: bool = False


def find_sources(names: Sequence[str], out: str) -> list[Source]:
    """Return the images, videos and cameras of arguments, each with the file for its picture.

    Args:
        names (Sequence[str]): images, videos, folders (with their sub-folders, without hidden files and folders),
            patterns such as ``'images/*.jpg'``, numbers of cameras, and addresses such as ``'rtsp://...'``.
        out (str): folder for the pictures. Sub-folders are kept. Files below it are left out where a folder or a
            pattern contains them.

    Returns:
        list[Source]: in the order of ``names``, and within a folder in the order of the paths. Targets differ from each
        other and from the images. Links whose file is missing are included.

    Raises:
        LaunchError: if there is nothing of a name.
    """
    found: list[tuple[str, Path, bool]] = []
    for name in names:
        path = Path(name)
        if path.is_file():
            found.append((name, Path(path.name), True))
        elif path.is_dir():
            found += _files(
                name, path, filterfalse(partial(_is_hidden, path), path.rglob('*')), out
            )
        elif name.isdecimal() or '://' in name:
            found.append((name, Path(f'camera_{name}' if name.isdecimal() else 'stream'), False))
        elif glob.has_magic(name):
            parts = path.parts
            fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
            matches = map(Path, glob.glob(name, recursive=True))
            found += _files(name, Path(*parts[:fixed]), matches, out)
        else:
            raise LaunchError(
                f'{name!r}: there is no such image, video or folder (looked from {Path.cwd()})'
            )
    taken = {Path(name).resolve() for name, _, is_file in found if is_file}
    sources = []
    for name, relative, is_file in found:
        target, moves = relative, not is_file or relative.suffix.lower() in VIDEOS
        if moves:
            target = relative.with_suffix('.mp4')
        elif relative.suffix.lower() not in IMAGES:
            target = Path(f'{relative}.png')
        sources.append(Source(name, relative, Path(out) / target, is_file, moves))
    wanted = {source.target for source in sources}
    return [s._replace(target=_free_path(s.target, taken, wanted)) for s in sources]


def _free_path(path: Path, taken: set[Path], wanted: set[Path]) -> Path:
    """Return a path, with a number behind its name where it is taken, and add it to those taken.

    Args:
        path (Path): the path.
        taken (set[Path]): absolute paths that are in use.
        wanted (set[Path]): paths that no other path with a number may have.
    """
    number, free = 1, path
    while free.resolve() in taken or (number > 1 and free in wanted):
        number += 1
        free = path.with_stem(f'{path.stem}_{number}')
    taken.add(free.resolve())
    return free


def _is_hidden(root: Path, path: Path) -> bool:
    return any(part.startswith('.') for part in path.relative_to(root).parts)


def _files(name: str, root: Path, paths: Iterable[Path], out: str) -> list[tuple[str, Path, bool]]:
    """Return the images and videos among paths, relative to ``root``, without those below ``out``."""
    above, pictures = root.resolve(), Path(out).resolve()
    found = [
        (str(path), path.relative_to(root), True)
        for path in sorted(paths)
        if path.suffix.lower() in (*IMAGES, *VIDEOS)
        if path.is_file() or (path.is_symlink() and not path.exists())
        if above not in pictures.parents or pictures not in path.resolve().parents
    ]
    if not found:
        raise LaunchError(
            f'{name!r} contains no images or videos: no file that is not hidden ends in {", ".join((*IMAGES, *VIDEOS))}'
        )
    return found


def frames_of(source: Source) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the image of a file, or the frames of a video or camera, each with the frames per second.

    Raises:
        Unusable: if it cannot be read.
    """
    if not source.moves:
        try:
            image = imread(source.name)
        except Exception:  # decoders raise many kinds for broken data
            image = None
        if image is None:
            defect = file_defect(source.name)
            if defect is None and cv2.haveImageReader(source.name):  # by its first bytes
                defect = 'is damaged or truncated, or of a kind that OpenCV does not decode'
            raise Unusable(defect or 'is not a readable image')
        yield image, 0
        return
    capture = cv2.VideoCapture(source.name if not source.name.isdecimal() else int(source.name))
    try:
        good, frame = capture.read()
        if not good:
            if not source.is_file:
                raise Unusable('gives no pictures')
            raise Unusable(file_defect(source.name) or 'is not a readable video')
        rate = capture.get(cv2.CAP_PROP_FPS)
        if not 0 < rate < 65535:  # infinity and NaN too
            rate = FRAMES_PER_SECOND
        while good:
            yield frame, rate
            good, frame = capture.read()
    finally:
        capture.release()


class VideoWriter:
    """Write frames to an MP4 file, which is opened with the first of them.

    Args:
        path (Path): The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray, rate: float) -> None:
        """Append a frame.

        Args:
            frame (np.ndarray): Shape (H, W, 3), uint8, BGR.
            rate (float): Frames per second, read with the first frame.

        Raises:
            WriteError: if the file cannot be opened.
        """
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            size = frame.shape[1], frame.shape[0]
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            # MPEG-4 has whole numbers up to 65535: 239.457 frames per second would be 239457 / 1000
            rate = round(rate, 3 if rate < 65 else 2 if rate < 650 else 0)
            self._writer = cv2.VideoWriter(str(self.path), codec, rate, size)
            if not self._writer.isOpened():
                self._writer = None
                raise self._error('')
        self._writer.write(frame)
        self.frames += 1

    def close(self) -> None:
        """Complete the file.

        Raises:
            WriteError: if it cannot be read again, as on a full disk: OpenCV reports nothing.
        """
        if self._writer is None:
            return
        self._writer.release()
        written = cv2.VideoCapture(str(self.path))
        if written.get(cv2.CAP_PROP_FRAME_COUNT) < self.frames:
            raise self._error(' completely')

    def _error(self, how: str) -> WriteError:
        return WriteError(
            errno.EIO,
            f'{str(self.path)!r} could not be written{how}, as on a full disk or in a folder that is not writable: '
            'free some space, or name another folder, and run the same command again',
        )
