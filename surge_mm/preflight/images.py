"""Every image is decoded once before training, by the decoder of training: its size, or what is wrong.

Nothing less finds a damaged file. Of JPEGs with a few wrong bytes in the header, a third passes for whole by first and
last bytes and by Pillow's reading of the header, and is then not decoded by OpenCV, in the middle of an epoch.
"""

import io
import threading
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import mmcv
from PIL import Image

from surge_mm.utils.files import check_each, file_defect

# Beyond it Pillow warns of a decompression bomb; decoded, such an image takes 0.27 GB and more.
LARGE_PIXELS = 89_478_485
JPEG_END = b'\xff\xd9'
_large_one = threading.Lock()


def measure_images(
    paths: Sequence[str], decoder: str = 'cv2'
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Decodes images in threads, of the large ones one at a time.

    Args:
        paths (Sequence[str]): The files.
        decoder (str): The ``imdecode_backend`` of ``LoadImageFromFile``. Defaults to 'cv2'.

    Returns:
        tuple: Width and height by path, and the defect by path of those that are unusable.
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
    """Width and height as training sees them (turned as EXIF says), or what makes the file unusable."""
    if defect := file_defect(path):
        return defect
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    if not content:
        return 'is empty'
    large, kind, end = _look(content)
    with _large_one if large else nullcontext():
        try:
            image = mmcv.imfrombytes(content, backend=decoder)
        except Exception:  # the decoders raise many kinds for broken data
            image = None
        if image is not None:
            # decoders fill up what a JPEG lacks, with grey or with what bytes follow
            return (image.shape[1], image.shape[0]) if end else 'is truncated'
    if large:
        return f'is damaged, or has more pixels than {decoder} decodes'
    if kind:
        return f'is truncated or damaged ({kind} that {decoder} does not decode)'
    return f'is not a whole image ({decoder} does not know what it is)'


def _look(content: bytes) -> tuple[bool, str | None, bool]:
    """Whether an image is large, its format, and whether it has an end, without decoding it.

    The end of a JPEG counts from where its pixels begin: the small one in its metadata has an end of its own.
    """
    stream = io.BytesIO(content)
    try:
        with Image.open(stream) as image:
            large = image.width * image.height > LARGE_PIXELS
            cut = image.format == 'JPEG' and content.find(JPEG_END, stream.tell()) < 0
            return large, image.format, not cut
    except Image.DecompressionBombError:
        return True, None, True
    except Exception:  # not Pillow's, but the decoder may know it
        return False, None, True
