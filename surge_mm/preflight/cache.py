"""Results of data checks, kept between starts of the same config on the same files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError
from surge_mm.version import __version__

VERSION = 5
"""Version of the check. Increase it when the check finds more than before."""


def cache_file(cfg: Config, splits: Sequence[str]) -> Path:
    """Return the file for the result of a data check. Its name depends on all but the data.

    Args:
        cfg (Config): config of a run.
        splits (Sequence[str]): the checked splits.

    Returns:
        Path: the file.
    """
    parts = [VERSION, __version__, os.getcwd(), cfg.get('default_scope'), cfg.get('model')]
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        parts += [split, loader.get('dataset'), cfg.get(f'{split}_evaluator')]
    key = hashlib.sha256(repr(parts).encode('utf-8', 'backslashreplace')).hexdigest()
    folder = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
    return folder / 'surge_mm' / 'data_checks' / f'{key}.json'


def fingerprint(path: str) -> list[int] | None:
    """Return modification time and size of a file or folder, or None if it cannot be read."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return [found.st_mtime_ns, found.st_size]


def load_result(file: Path) -> list[str] | None:
    """Return the lines of an earlier check, or None if there is none or the data has changed since.

    Args:
        file (Path): result of :func:`cache_file`.

    Returns:
        list[str], optional: what the check found.
    """
    try:
        states, lines = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return lines if all(fingerprint(path) == state for path, state in states.items()) else None


def save_result(file: Path, states: Mapping[str, list[int] | None], lines: list[str]) -> None:
    """Keep the lines of a check. Where the cache cannot be written, nothing is kept.

    Args:
        file (Path): result of :func:`cache_file`.
        states (Mapping): fingerprints of the files before they were read.
        lines (list[str]): what the check found.
    """
    with contextlib.suppress(UsageError):
        write_atomically(file, json.dumps([states, lines]).encode())
