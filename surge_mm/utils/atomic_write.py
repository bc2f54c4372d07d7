"""Write files that are complete or unchanged, even if the process is killed or the disk is full.

The bytes are written to a temporary file in the same folder, which is renamed when it is complete and synchronized to
the disk. Renaming a file is atomic in POSIX.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from surge_mm.utils.errors import UsageError

PARTIAL = '.partial'
"""Suffix of the temporary files."""


def write_atomically(
    path: str | os.PathLike,
    data: bytes,
    way_out: str = 'free some space, then continue by the same command with --resume',
) -> None:
    """Write ``data`` to ``path``. If writing fails, ``path`` keeps its previous content.

    Args:
        path (str | os.PathLike): the file. Missing folders are created.
        data (bytes): its new content.
        way_out (str): what the error message advises to do.

    Raises:
        UsageError: if the file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    # a random name, because several ranks may write the same file at the same time
    partial = path.with_name(f'.{path.name}.{secrets.token_hex(4)}{PARTIAL}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UsageError(
            f'{str(path)!r} ({len(data):,} bytes) could not be written: {error.strerror}. Files written before are '
            f'unchanged: {way_out}'
        ) from error


def _sync_folder(folder: Path) -> None:
    """Synchronize the rename to the disk, on file systems that support it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
