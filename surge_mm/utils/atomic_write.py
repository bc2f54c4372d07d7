"""Write files that are complete or unchanged, even if the process is killed or the disk is full.

The bytes are written to a temporary file in the same folder, which is renamed when it is complete and synchronized to
the disk. Renaming a file is atomic in POSIX. Only a regular file with one name can be replaced in this way: pipes,
devices and hard links are written to directly, as by :func:`open`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from surge_mm.utils.errors import WriteError

PARTIAL = '.partial'
"""Suffix of the temporary files."""
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
"""Errors of a full disk, or of a limit on the size of files."""


def write_atomically(
    path: str | os.PathLike,
    data: bytes,
    way_out: str | None = None,
) -> None:
    """Write ``data`` to ``path``. If writing fails, a regular file with one name keeps its previous content.

    A symbolic link is followed. An existing file keeps its mode and, where the user may set it, its owner.

    Args:
        path (str | os.PathLike): the file. Missing folders are created.
        data (bytes): its new content.
        way_out (str, optional): what the error message advises to do. Defaults to the advice for its cause.

    Raises:
        WriteError: if the file cannot be written, for instance because the disk is full.
    """
    file, before = Path(os.path.realpath(path)), None
    kept = 'Files written before are unchanged: '
    try:
        with contextlib.suppress(FileNotFoundError):
            before = os.stat(path)
        if before is None or _is_replaceable(file, before):
            _replace(file, data, before)
        else:
            kept = ''
            Path(path).write_bytes(data)
    except OSError as error:
        if way_out is None and error.errno in FULL:
            way_out = 'free some space and run the same command again'
        elif way_out is None:
            way_out = 'name a file in a folder that you may write to'
        raise WriteError(
            error.errno,
            f'{str(path)!r} ({len(data):,} bytes) could not be written: {error.strerror}. {kept}{way_out}',
            str(path),
        ) from error


def write_json(path: str | os.PathLike, content: Any, way_out: str | None = None) -> None:
    """Write ``content`` as indented JSON by :func:`write_atomically`.

    Args:
        path (str | os.PathLike): the file.
        content (Any): numbers, strings, lists and dicts.
        way_out (str, optional): what the error message advises to do. Defaults to the advice for its cause.

    Raises:
        WriteError: if the file cannot be written.
    """
    write_atomically(path, (json.dumps(content, indent=1) + '\n').encode(), way_out)


def _is_replaceable(file: Path, found: os.stat_result) -> bool:
    plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return plain and os.access(file.parent, os.W_OK)


def _replace(file: Path, data: bytes, before: os.stat_result | None) -> None:
    # a random name, because several ranks may write the same file at the same time; at most 255 bytes
    name = f'.{file.stem[:50]}.{secrets.token_hex(4)}{file.suffix[:8]}{PARTIAL}'
    partial = file.with_name(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, 'wb') as stream:
            if before is not None:
                with contextlib.suppress(OSError):
                    os.fchmod(stream.fileno(), stat.S_IMODE(before.st_mode))
                    os.fchown(stream.fileno(), before.st_uid, before.st_gid)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    _sync_folder(file.parent)


def _sync_folder(folder: Path) -> None:
    """Synchronize the rename to the disk, on file systems that support it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
