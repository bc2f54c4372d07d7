"""Run a predictor on images, videos and cameras, and write its pictures and label files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from surge_mm.deploy.predict.label_files import label_file, label_lines, remove_label_files
from surge_mm.deploy.predict.media import Source, Unusable, VideoWriter, frames_of
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError

AGAIN = (
    'free some space there, or make it writable, and run the same command again with --overwrite'
)


def run_source(
    predictor: Predictor, source: Source, labels: str | None, warm_up: bool
) -> Iterator[tuple[dict[str, Any], float]]:
    """Write the picture or video of a source, and the labels; yield each result and its milliseconds.

    Args:
        predictor (Predictor): The model.
        source (Source): The image, video or camera.
        labels (str | None): Folder of the pictures, below which the label files are, or None for none.
        warm_up (bool): Whether the first image is the first of all.

    Yields:
        tuple[dict, float]: ``file``, ``picture``, ``labels`` if they are written, ``height``, ``width``, ``frame`` of a
        video, and ``found`` as :meth:`Predictor.describe` returns it; and the milliseconds.

    Raises:
        Unusable: if it cannot be read, or the model does not run on it.
    """
    writer = VideoWriter(source.target) if source.moves else None
    try:
        for number, (image, rate) in enumerate(frames_of(source)):
            found, drawn, ms = _run_timed(predictor, image, warm_up and number == 0)
            frame = number if writer else None
            path = label_file(source, labels, frame) if labels else None
            result: dict[str, Any] = {'file': source.name, 'picture': str(source.target)}
            result |= {'labels': str(path)} if path else {}
            result |= {'height': len(image), 'width': len(image[0])}
            result |= {'frame': frame} if writer else {}
            result['found'] = found
            if writer:
                writer.write(drawn, rate)
            else:
                _write_picture(source.target, drawn)
            if path:
                write_atomically(path, label_lines(result).encode(), AGAIN)
            yield result, ms
        if writer and labels:
            remove_label_files(source, labels, number + 1)
    finally:
        if writer:
            writer.close()


def _run_timed(
    predictor: Predictor, image: np.ndarray, warm_up: bool
) -> tuple[list[dict[str, Any]], np.ndarray, float]:
    """Return what the model finds in an image, the picture of it, and the milliseconds of the prediction.

    Args:
        predictor (Predictor): The model.
        image (np.ndarray): Shape (H, W, 3), uint8, BGR.
        warm_up (bool): Whether to run the model twice before.

    Raises:
        Unusable: if the model does not run on the image.
    """
    try:
        for _ in range(2 if warm_up else 0):  # compilation, and the recording of the network
            predictor.predict(image)
        start = time.perf_counter()
        sample = predictor.predict(image)
        elapsed = 1e3 * (time.perf_counter() - start)
        return predictor.describe(sample), predictor.draw(image, sample), elapsed
    except UsageError as error:
        raise Unusable(str(error)) from error
    # transforms and networks raise many kinds for images that are too small
    except Exception as error:
        reason = f': {type(error).__name__}: {" ".join(str(error).split()):.200}'
        if isinstance(error, cv2.error):  # its text is the place in the code of OpenCV
            reason = f' ({error.func})'
        height, width = image.shape[:2]
        raise Unusable(
            f'the model does not run on an image of height {height} and width {width}{reason}'
        ) from error


def _write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image in the format of the ending of its name."""
    write_atomically(path, cv2.imencode(path.suffix.lower(), image)[1].tobytes(), AGAIN)
