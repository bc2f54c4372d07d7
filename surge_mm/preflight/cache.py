"""Results of data checks, kept between starts of the same config on the same files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from surge_mm.preflight.config_consistency import head_classes
from surge_mm.version import __version__

VERSION = 1
"""Version of the check. Increase it when the check finds more than before."""
EVERY_FILE = '*'
"""Last part of a path that means all files of a folder."""


def cache_key(cfg: Config, splits: Sequence[str]) -> str:
    """Return a hash of everything but the files that the result of a data check depends on.

    Args:
        cfg (Config): config of a run.
        splits (Sequence[str]): the checked splits.

    Returns:
        str: hexadecimal digits.
    """
    model = cfg.get('model')
    parts = [
        *(VERSION, __version__, os.getcwd(), cfg.get('default_scope')),
        list(head_classes('model', model)) if isinstance(model, dict) else None,
    ]
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        parts += [split, loader.get('dataset'), cfg.get(f'{split}_evaluator')]
    return hashlib.sha256(repr(parts).encode('utf-8', 'backslashreplace')).hexdigest()


def fingerprint(path: str) -> str | None:
    """Return modification time and size of a file or folder, or a hash of those of all files of ``FOLDER/*``.

    Args:
        path (str): the path.

    Returns:
        str, optional: the fingerprint, or None if the path cannot be read.
    """
    try:
        if os.path.basename(path) == EVERY_FILE:
            with os.scandir(os.path.dirname(path)) as entries:
                files = sorted((entry.name, *_state(entry.stat())) for entry in entries)
            return hashlib.sha256(repr(files).encode()).hexdigest()
        return ' '.join(map(str, _state(os.stat(path))))
    except (OSError, ValueError):
        return None


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size


def load_result(key: str) -> list[str] | None:
    """Return the lines of an earlier check, or None if there is none or a file has changed since.

    Args:
        key (str): result of :func:`cache_key`.

    Returns:
        list[str], optional: what the check found.
    """
    try:
        content = json.loads(_path(key).read_text())
        files, lines = dict(content['files']), list(content['lines'])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    unchanged = all(fingerprint(path) == state for path, state in files.items())
    return lines if unchanged else None


def save_result(key: str, files: Mapping[str, str | None], lines: list[str]) -> None:
    """Keep the lines of a check. Where the cache cannot be written, nothing is kept.

    Args:
        key (str): result of :func:`cache_key`.
        files (Mapping[str, str | None]): fingerprints of the files before they were read.
        lines (list[str]): what the check found.
    """
    if None in files.values():
        return
    path = _path(key)
    partial = path.with_name(f'{path.name}.{os.getpid()}')
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({'files': dict(files), 'lines': lines}))
        partial.replace(path)


def _path(key: str) -> Path:
    folder = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(folder).expanduser() / 'surge_mm' / 'data_checks' / f'{key}.json'
