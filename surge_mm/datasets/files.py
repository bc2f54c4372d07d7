"""Checks of files: whether an image is there, whole, and an image at all; whether a download is the official one."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar('T')

# How far from the end of a file its end marker is looked for: some cameras write more after it.
TAIL_BYTES = 4096
SECONDS_WITHOUT_BAR = 2.0


def check_each(
    function: Callable[[str], T], paths: Sequence[str], description: str
) -> list[tuple[str, T]]:
    """Applies ``function`` to every path in threads, with a progress bar if it takes a while."""
    results = []
    progress = Progress(
        TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )
    task = progress.add_task('', total=len(paths))
    start = time.monotonic()
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        try:
            for path, result in zip(paths, pool.map(function, paths), strict=True):
                results.append((path, result))
                progress.advance(task)
                if not progress.live.is_started and time.monotonic() - start > SECONDS_WITHOUT_BAR:
                    progress.start()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            if progress.live.is_started:
                progress.stop()
    return results


def image_defect(path: str) -> str | None:
    """Says what makes an image file unusable, or None.

    JPEG and PNG are judged by their first and last bytes. Only a file that looks odd, or has another
    format, is decoded.
    """
    try:
        with open(path, 'rb') as file:
            head = file.read(8)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return 'is missing'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    if size == 0:
        return 'is empty'
    if head.startswith(b'\xff\xd8') and b'\xff\xd9' in tail:
        return None
    if head == b'\x89PNG\r\n\x1a\n' and b'IEND' in tail:
        return None
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise many kinds for broken data
        if isinstance(error, OSError) and 'truncated' in str(error):
            return 'is truncated'
        return f'is not a whole image ({type(error).__name__})'
    return None


def md5_defects(folder: str, expected: Sequence[tuple[str, str]]) -> list[str]:
    """Says which files of ``folder`` are missing or have another MD5 than ``(name, md5)`` asks for."""
    defects = []
    for name, md5 in expected:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            defects.append(f'{path} is missing (expected MD5 {md5})')
            continue
        with open(path, 'rb') as file:
            found = hashlib.md5(file.read()).hexdigest()
        if found != md5:
            defects.append(f'{path} is damaged: its MD5 is {found}, expected {md5}')
    return defects
