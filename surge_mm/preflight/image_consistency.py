"""Decoding of all images of datasets, and consistency of their sizes with the annotations.

Only decoding finds a damaged file. Of JPEGs with a few wrong bytes in the header, a third has correct first and last
bytes and a header that Pillow reads, but OpenCV does not decode them.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import mmcv
import numpy as np
from mmengine.config import ConfigDict
from PIL import Image

from surge_mm.preflight.annotations import some
from surge_mm.preflight.leaves import Leaf, image_paths
from surge_mm.preflight.pipelines import advise_filter, decoder_of, has_masks, shape_defect
from surge_mm.utils.files import check_each, file_defect

# Pillow warns of a decompression bomb above this size; decoded, such an image has 0.27 GB or more.
LARGE_PIXELS = 89_478_485
JPEG_END = b'\xff\xd9'
_decoding_a_large_image = threading.Lock()


def check_images(leaves: Sequence[Leaf], scope: str | None) -> tuple[list[str], dict[str, str]]:
    """Decode the images of datasets, each once, and compare them with the annotations.

    Args:
        leaves (Sequence[Leaf]): datasets whose annotations have been read.
        scope (str, optional): ``default_scope`` of the config.

    Returns:
        tuple: warnings, and the defect of each unusable image by its path.
    """
    lines: list[str] = []
    broken: dict[str, str] = {}
    for decoder in {decoder_of(leaf.config) for leaf in leaves}:
        chosen = [leaf for leaf in leaves if decoder_of(leaf.config) == decoder]
        paths = list(dict.fromkeys(path for leaf in chosen for path in leaf.paths))
        sizes, defects = measure_images(paths, decoder)
        broken |= defects
        for leaf in chosen:
            for path in leaf.paths:
                if path in sizes and path not in broken:
                    arguments = leaf.dataset, leaf.config, scope, path, sizes[path]
                    if defect := shape_defect(*arguments):
                        broken[path] = defect
            unknown = (float('nan'), float('nan'))
            measured = np.array([sizes.get(path, unknown) for path in leaf.paths], dtype=float)
            lines += _compare_sizes(leaf, measured, broken)
    return lines, broken


def _compare_sizes(leaf: Leaf, measured: np.ndarray, broken: dict[str, str]) -> list[str]:
    """Compare measured and annotated sizes; masks of another size are added to ``broken``."""
    lines = []
    large = np.flatnonzero(measured.prod(1) > LARGE_PIXELS)
    if len(large):
        most = measured.prod(1)[large].max() * 3 / 2**30
        lines.append(
            f'warning: {leaf.key}: {len(large):,} images of more than {LARGE_PIXELS:,} pixels, decoded up to '
            f'{most:.1f} GiB in each worker: {some(leaf.paths[i] for i in large)}'
        )
    annotated = leaf.content.sizes
    known = ~np.isnan(annotated).any(1) & ~np.isnan(measured).any(1)
    names = list(leaf.content.image_files.values())
    others = {
        i: f'{_text(measured[i])}, not {_text(annotated[i])}'
        for i in np.flatnonzero(known & (measured != annotated).any(1))
    }
    if has_masks(leaf.config):
        broken |= {
            leaf.paths[i]: f'has masks of another size: it is {x}' for i, x in others.items()
        }
    elif others:
        lines.append(
            f'warning: {leaf.key}: {len(others):,} images have another size than their annotations (rotated or '
            f'scaled?): {some(f"{names[i]} is {x}" for i, x in others.items())}'
        )
    clipped = leaf.content.clipped(measured) & ~leaf.content.clipped(annotated)
    if clipped.any():
        lines.append(
            f'warning: {leaf.key}: {clipped.sum():,} boxes with less than a pixel inside their decoded image '
            f'({advise_filter(leaf.key, leaf.config, clipped=True)}): {some(leaf.content.describe(clipped))}'
        )
    return lines


def _text(size: np.ndarray) -> str:
    return 'x'.join(str(int(side) if side.is_integer() else side) for side in size.tolist())


def check_other_images(key: str, config: ConfigDict, scope: str | None) -> dict[str, str]:
    """Decode the images of a dataset that has its own format of annotations.

    Args:
        key (str): its config key.
        config (ConfigDict): its config.
        scope (str, optional): ``default_scope`` of the config.

    Returns:
        dict[str, str]: the defect of each unusable image by its path.
    """
    return measure_images(image_paths(key, config, scope), decoder_of(config))[1]


def measure_images(
    paths: Sequence[str], decoder: str = 'cv2'
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Decode images in threads, large ones one at a time.

    Args:
        paths (Sequence[str]): the files.
        decoder (str): ``imdecode_backend`` of ``LoadImageFromFile``. Defaults to 'cv2'.

    Returns:
        tuple: width and height by path, and the defect by path of the unusable ones.
    """
    sizes, defects = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', Image.DecompressionBombWarning)
        for path, found in check_each(partial(_measure, decoder=decoder), paths, 'images'):
            if isinstance(found, str):
                defects[path] = found
            else:
                sizes[path] = found
    return sizes, defects


def _measure(path: str, decoder: str) -> tuple[int, int] | str:
    """Return width and height after EXIF rotation, as in training, or what makes the file unusable."""
    if defect := file_defect(path):
        return defect
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    if not content:
        return 'is empty'
    large, kind, has_end = _inspect(content)
    with _decoding_a_large_image if large else nullcontext():
        try:
            image = mmcv.imfrombytes(content, backend=decoder)
        except Exception:  # decoders raise many kinds for broken data
            image = None
        if image is not None:
            # decoders fill the missing part of a JPEG with gray
            return (image.shape[1], image.shape[0]) if has_end else 'is truncated'
    if large:
        return f'is damaged, or has more pixels than {decoder} decodes'
    if kind:
        return f'is truncated or damaged ({kind} that {decoder} does not decode)'
    return f'is not an image that {decoder} decodes'


def _inspect(content: bytes) -> tuple[bool, str | None, bool]:
    """Return whether an image is large, its format, and whether it has an end, without decoding it.

    The end of a JPEG is searched after the start of its pixels: a thumbnail in its metadata has its own end.
    """
    stream = io.BytesIO(content)
    try:
        with Image.open(stream) as image:
            large = image.width * image.height > LARGE_PIXELS
            cut = image.format == 'JPEG' and content.find(JPEG_END, stream.tell()) < 0
            return large, image.format, not cut
    except Image.DecompressionBombError:
        return True, None, True
    except Exception:  # Pillow does not read it, but the decoder may
        return False, None, True
