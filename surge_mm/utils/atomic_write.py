"""Files that are there whole or not at all, whenever the process is killed or the disk is full.

MMEngine writes a checkpoint into the file of its final name. Killed in the middle, it leaves half a checkpoint there,
and on a full disk it has destroyed what the file held before. Here the bytes go into a file beside it first, which
takes the name when it is complete and on the disk; a rename is atomic in POSIX.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from surge_mm.utils.errors import UsageError

PARTIAL = '.partial'


def write_atomically(
    path: str | os.PathLike,
    data: bytes,
    way_out: str = 'make room there, then the same command with --resume goes on',
) -> None:
    """Write ``data`` to ``path``; whatever happens, ``path`` then holds all of it, or what it held before.

    Args:
        path (str): The file; folders that are not there are made.
        data (bytes): What it shall hold.
        way_out (str): What the error advises.

    Raises:
        UsageError: it cannot be written, for instance since the disk is full.
    """
    path = Path(path)
    # a name of its own, for ranks may write one file at once
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
            f'as they were: {way_out}'
        ) from error


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk when the folder is, where the file system can promise it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, which writes atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_atomically(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        write_atomically(filepath, obj.encode(encoding))


def install_atomic_writes() -> None:
    """Let MMEngine write local files, and so all checkpoints, atomically: for the whole process."""
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
