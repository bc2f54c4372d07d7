"""Format of packed files: safetensors with these texts in the metadata of its header.

- ``format``: ``'surge_mm packed model'``.
- ``version``: version of the format, an integer: 4 for a model whose real-valued convolutions are not in float32, 2 for
  one that no config built, 3 for a text classifier with its vocabulary, else 1.
- ``surge_mm``: version of the package that wrote the file.
- ``config``: the part of the config that inference needs (:mod:`surge_mm.deploy.packed_file.config`), as JSON. For a
  model that no config built, its ``model`` is null, and ``class`` and ``structure`` describe the model. In version 4,
  ``real`` has the dtype and the names of real-valued convolutions (:mod:`surge_mm.deploy.real_layers`).
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
from typing import Any

import torch
from torch import Tensor

from surge_mm.deploy.packed_file.json_text import from_json, to_json
from surge_mm.deploy.real_layers.convert import check_stored_real
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.utils.files import file_defect
from surge_mm.utils.packages import require_packages
from surge_mm.version import __version__

FORMAT, VERSION = 'surge_mm packed model', 4
WITHOUT_CONFIG = {'model', 'dataset_meta', 'class', 'structure'}
"""Keys of the config of a model that no config built."""
TEXTS = ('format', 'version', 'surge_mm', 'config', 'same')
NOT_PACKED = (
    'it is no packed model, or damaged. Make one: surge_mm.deploy.save_packed(model, path), or, '
    'of a config, python tools/export.py CONFIG CHECKPOINT OUT.safetensors'
)


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
    require_packages('deploy', 'safetensors', 'numpy')
    from safetensors.torch import save

    kept, same = each_once(state)
    texts = {
        'format': FORMAT,
        'version': _version_of(config),
        'surge_mm': __version__,
        'config': to_json(config),
        'same': json.dumps(same),
    }
    texts['sha256'] = _checksum(texts, kept)
    write_atomically(path, save(kept, texts), 'make room there, or name another file')
    return texts['sha256']


def read_packed(path: str | os.PathLike) -> PackedFile:
    """Read a packed file without building anything.

    Args:
        path (str | os.PathLike): The file.

    Raises:
        CheckpointError: if the file is no packed file, is damaged or has a later version.
        UsageError: if safetensors is not installed.
    """
    require_packages('deploy', 'safetensors', 'numpy')
    from safetensors import SafetensorError, safe_open

    try:
        if defect := file_defect(str(path)):
            raise UsageError(f'it {defect}')
        with safe_open(path, 'pt') as file:
            texts = file.metadata() or {}
            _check_version(texts)
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        if _checksum(texts, stored) != texts['sha256']:
            raise UsageError('it is damaged or was altered: its checksum is wrong')
        config, same = from_json(texts['config']), json.loads(texts['same'])
        _check_structure(config, texts['version'])
        tensors = {**stored, **{name: stored[other] for name, other in same.items()}}
    except (UsageError, SafetensorError, OSError) as error:
        problem = f'{NOT_PACKED} ({error})' if isinstance(error, SafetensorError) else str(error)
        problem = ' '.join(problem.split())  # names in the file may contain line breaks
        raise CheckpointError(f'packed model {str(path)!r}: {problem}') from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f'packed model {str(path)!r}: it is malformed ({type(error).__name__}: {error!s:.200})'
        ) from error
    return PackedFile(config, tensors, texts['sha256'], texts['surge_mm'], os.path.getsize(path))


def _version_of(config: Mapping[str, Any]) -> str:
    if 'real' in config:
        return '4'
    return '2' if not config['model'] else '3' if 'vocabulary' in config else '1'


def _check_version(texts: Mapping[str, str]) -> None:
    if texts.get('format') != FORMAT:
        raise UsageError(NOT_PACKED)
    version = texts['version']
    if version.isdecimal() and int(version[:9]) > VERSION:
        raise UsageError(
            f'it has version {version[:9]} of the format, written by surge_mm {texts.get("surge_mm")!r:.40}; surge_mm '
            f'{__version__} reads up to version {VERSION}: install a later surge_mm, or export the model anew'
        )
    if version not in ('1', '2', '3', '4'):
        raise UsageError('its header is damaged')


def _check_structure(config: Any, version: str) -> None:
    if version == '4':
        config = dict(config)
        check_stored_real(config.pop('real', None))
        version = '1' if config.get('model') else '2'
    if version == '2':
        if set(config) != WITHOUT_CONFIG or config['model'] is not None or config['dataset_meta']:
            raise UsageError(
                f'its config must be a dict with the keys {", ".join(sorted(WITHOUT_CONFIG))}, without a model and '
                'metadata'
            )
        return
    from surge_mm.deploy.packed_file.config_policy import check_structure

    check_structure(config)


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
