"""Checks of files: whether they can be read, and whether they may be written."""

import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from surge_mm.utils.errors import UsageError

T = TypeVar('T')

PATHS_WITHOUT_BAR = 1000


def check_each(
    function: Callable[[str], T], paths: Sequence[str], description: str
) -> list[tuple[str, T]]:
    """Apply a function to each path in threads, with a progress bar on stderr for a thousand paths or more.

    Args:
        function (Callable): called with a path.
        paths (Sequence[str]): the paths.
        description (str): text of the progress bar.

    Returns:
        list[tuple[str, T]]: each path with its result, in the given order.
    """
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        results = track(
            pool.map(function, paths),
            description,
            total=len(paths),
            console=Console(stderr=True),
            disable=len(paths) < PATHS_WITHOUT_BAR,
        )
        return list(zip(paths, results, strict=True))


def file_defect(path: str) -> str | None:
    """Describe why a path is not a readable file, without opening it: opening a pipe or device may block."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            return f'is a link to {os.readlink(path)}, which is missing'
        return 'is missing'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    except ValueError as error:  # a null character or an unpaired surrogate in the name
        return f'cannot be the name of a file ({error})'
    if not stat.S_ISREG(mode):
        return 'is a folder' if stat.S_ISDIR(mode) else 'cannot be read (it is a pipe or device)'
    if not os.access(path, os.R_OK):
        return 'cannot be read (no permission)'
    return None


def check_new_file(
    path: str | os.PathLike,
    endings: Sequence[str],
    overwrite: bool,
    option: str = '',
    advice: str = 'add --overwrite',
) -> None:
    """Check the path of a file to write, before time is spent.

    Args:
        path (str | os.PathLike): the file.
        endings (Sequence[str]): those that its name may have.
        overwrite (bool): whether an existing file may be replaced.
        option (str): what the path was given by, such as ``'--json'``. Defaults to an empty string.
        advice (str): how to replace an existing file. Defaults to ``'add --overwrite'``.

    Raises:
        UsageError: if it has another ending, is a folder, or exists and must not be replaced.
    """
    given = f'{option} {str(path)!r}'.lstrip()
    if Path(path).is_dir():
        raise UsageError(f'{given} is a folder; name a file')
    if Path(path).suffix not in endings:
        raise UsageError(f'{given} must end in {" or ".join(endings)}')
    if Path(path).exists() and not overwrite:
        raise UsageError(f'{given} exists already: name another file, or {advice}')
