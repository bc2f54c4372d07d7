"""Format of packed files: safetensors with these texts in the metadata of its header.

- ``format``: ``'surge_mm packed model'``.
- ``version``: version of the format, an integer.
- ``surge_mm``: version of the package that wrote the file.
- ``config``: the part of the config that inference needs (:mod:`surge_mm.deploy.packed_file.config`), as JSON.
- ``same``: JSON from names of tensors to the name of an equal one; only the latter is stored.
- ``sha256``: checksum of the other texts and of the name, dtype, shape and bytes of each tensor, in hexadecimal.

A file contains no code, and what its config names is checked before anything is built
(:mod:`surge_mm.deploy.packed_file.config_policy`). The checksum detects damage, not who wrote a file.
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
MAX_HEADER = 100_000_000
"""Largest header that safetensors reads, in bytes."""


@dataclass(frozen=True)
class PackedFile:
    """Content of a packed file.

    Attributes:
        config (dict[str, Any]): Config, see :func:`surge_mm.deploy.packed_file.config.stored_config`.
        tensors (dict[str, Tensor]): State dict of the packed model.
        sha256 (str): Checksum, in hexadecimal.
        writer (str): Version of this package that wrote the file.
        size (int): Size of the file, in bytes.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    sha256: str
    writer: str
    size: int


def write_packed(
    path: str | os.PathLike, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> str:
    """Write a packed file. An existing file is replaced.

    Args:
        path (str | os.PathLike): The file.
        config (Mapping[str, Any]): Config as :func:`surge_mm.deploy.packed_file.config.stored_config` returns it.
        state (Mapping[str, Tensor]): State dict, contiguous tensors on the CPU.

    Returns:
        str: The checksum.

    Raises:
        UsageError: if the file cannot be written, or safetensors is not installed.
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
    """Read a packed file without building anything.

    Args:
        path (str | os.PathLike): The file.

    Raises:
        CheckpointError: if the file is no packed file, is damaged or has a later version.
        UsageError: if safetensors is not installed.
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
    """Return the texts of the header, and the whole file.

    Raises:
        UsageError: if the file is no packed file, or has a later version.
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
            if len(length) < 8 or size > MAX_HEADER:
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
    """Return the SHA-256 of :data:`TEXTS` and of each tensor, in the order of their names."""
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
    """Find equal tensors, such as those of layers that the levels of a head share.

    Args:
        state (Mapping[str, Tensor]): State dict.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The first of equal tensors by name; and the names of the others, each
        with the name of the first.
    """
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
    """Return the module ``safetensors.torch``.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError(
            'packed files need safetensors, which is not installed: pip install "surge_mm[deploy]"'
        ) from error
    return safetensors.torch
