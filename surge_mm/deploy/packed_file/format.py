"""The file of a packed model: written whole or not at all, read as if a stranger had made it.

The format is safetensors, whose header holds beside the tensors these texts:

- ``format``: ``'surge_mm packed model'``; ``version``: of the format, a whole number; ``surge_mm``: who wrote it.
- ``config``: what inference needs of the config (:mod:`surge_mm.deploy.packed_file.config`).
- ``same``: names of tensors that equal another one, which alone is stored.
- ``sha256``: of the other texts and of the name, dtype, shape and bytes of every tensor.

A file holds no code, and what its config names is checked (:mod:`.config_policy`). The checksum finds damage; it does
not say who made a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surge_mm.deploy.packed_file.config import from_json, to_json
from surge_mm.deploy.packed_file.config_policy import check_structure
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.version import __version__

FORMAT, VERSION = 'surge_mm packed model', 1
TEXTS = ('format', 'version', 'surge_mm', 'config', 'same')
LONGEST_HEADER = 100_000_000
"""Bytes, of which safetensors reads no more."""


@dataclass(frozen=True)
class PackedFile:
    """What a packed file holds.

    Attributes:
        config (dict): The config, see :func:`surge_mm.deploy.packed_file.config.stored_config`.
        tensors (dict[str, Tensor]): The state dict of the packed model.
        sha256 (str): The checksum, in hexadecimal.
        writer (str): The version of this package that wrote it.
        size (int): Of the file, in bytes.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str
    writer: str
    size: int


def write_packed(
    path: str | os.PathLike, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> str:
    """Write the file; a file of that name is replaced.

    Args:
        path (str): The file.
        config (dict): As :func:`surge_mm.deploy.packed_file.config.stored_config` gives it.
        state (dict[str, Tensor]): The state dict, on the CPU and without gaps.

    Returns:
        str: The checksum.

    Raises:
        UsageError: it cannot be written; safetensors is not installed.
    """
    safetensors = safetensors_torch()
    kept, same = each_once(state)
    texts = {
        'format': FORMAT,
        'version': str(VERSION),
        'surge_mm': __version__,
        'config': to_json(config),
        'same': json.dumps(same),
    }
    texts['sha256'] = _checksum(texts, kept)
    write_atomically(path, safetensors.save(kept, texts), 'make room there, or name another file')
    return texts['sha256']


def read_packed(path: str | os.PathLike) -> PackedFile:
    """What a packed file holds, checked, with nothing built of it.

    Raises:
        CheckpointError: it is no packed file, is damaged, of a later version, or holds what no packed file needs.
        UsageError: safetensors is not installed.
    """
    safetensors = safetensors_torch()
    try:
        texts, raw = _read(Path(path))
        try:
            stored = safetensors.load(raw)
        except Exception as error:  # of the library, which is in Rust
            raise UsageError(f'it breaks off or is damaged ({error})') from None
        if _checksum(texts, stored) != texts.get('sha256'):
            raise UsageError('it is damaged or was altered: its checksum is wrong')
        try:
            config, same = from_json(texts['config']), json.loads(texts['same'])
            check_structure(config)
            tensors = {**stored, **{name: stored[other] for name, other in same.items()}}
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(
                f'its config is malformed ({type(error).__name__}: {error!s:.200})'
            ) from None
    except UsageError as error:
        raise CheckpointError(f'packed model {str(path)!r}: {error}') from error
    return PackedFile(config, tensors, texts['sha256'], texts['surge_mm'], len(raw))


def _read(path: Path) -> tuple[dict[str, str], bytes]:
    """The texts of the header, and the whole file.

    Raises:
        UsageError: it is no packed file, or one of a later version.
    """
    no_file = (
        'it is no packed model. Make one: python tools/export.py CONFIG CHECKPOINT OUT.safetensors'
    )
    try:
        if not path.exists():
            raise UsageError(f'there is no such file (looked from {Path.cwd()})')
        if not path.is_file():
            raise UsageError(f'it is {"a folder" if path.is_dir() else "no file"}; name the file')
        with path.open('rb') as file:
            length = file.read(8)
            size = int.from_bytes(length, 'little')
            if len(length) < 8 or size > LONGEST_HEADER:
                raise UsageError(no_file)
            header = file.read(size)
            if not header.startswith(b'{'):
                raise UsageError(no_file)
            if len(header) < size:
                raise UsageError(f'it breaks off within its first {size:,} bytes')
            raw = length + header + file.read()
    except OSError as error:
        raise UsageError(f'it cannot be read: {error.strerror}') from error
    try:
        texts = json.loads(header).get('__metadata__')
    except (ValueError, AttributeError, RecursionError):
        raise UsageError(no_file) from None
    if not isinstance(texts, dict) or texts.get('format') != FORMAT:
        raise UsageError(no_file)
    version = str(texts.get('version'))
    if version.isdecimal() and int(version[:9]) > VERSION:
        raise UsageError(
            f'it has version {version[:9]} of the format, written by surge_mm {texts.get("surge_mm")!r:.40}; surge_mm '
            f'{__version__} reads version {VERSION}: install a later surge_mm, or export the model anew'
        )
    if version != str(VERSION) or not all(isinstance(texts.get(key), str) for key in TEXTS):
        raise UsageError('its header is damaged')
    return texts, raw


def _checksum(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of :data:`TEXTS` and of each tensor, in the order of their names."""
    found = hashlib.sha256()
    for key in TEXTS:
        found.update(f'{key}\0{texts[key]}\0'.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f'{name}\0{value.dtype}\0{tuple(value.shape)}\0'.encode())
        found.update(_bytes(value))
    return found.hexdigest()


def _bytes(value: Tensor) -> Any:
    return value.reshape(-1).view(torch.uint8).numpy().data


def each_once(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of which no other is a copy, and of which of them the others are: heads share layers over levels."""
    first: dict[tuple[Any, ...], str] = {}
    kept, same = {}, {}
    for name, value in state.items():
        key = (value.dtype, value.shape, hashlib.sha256(_bytes(value)).digest())
        if first.setdefault(key, name) == name:
            kept[name] = value
        else:
            same[name] = first[key]
    return kept, same


def safetensors_torch() -> Any:
    """The library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError(
            'packed models are kept in files of safetensors, which is not installed: pip install "surge_mm[deploy]"'
        ) from error
    return safetensors.torch
