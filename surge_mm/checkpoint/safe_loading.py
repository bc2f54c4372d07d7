"""Reads checkpoints as if a stranger had made them: none runs code, fills the memory or is loaded in part.

MMEngine's own loader is replaced, so this holds wherever MMEngine loads a checkpoint (``load_from``, ``resume``,
``init_cfg=dict(type='Pretrained', ...)``, ``init_detector``), from a file or a URL:

- Before anything is loaded, the file must be whole (its checksums, in the zip format of PyTorch 1.6 and later), unpack
  to no more than its own size, and its pickle must do nothing but put tensors and plain values together
  (:mod:`surge_mm.checkpoint.pickle_programs`).
- ``torch.load`` is called with ``weights_only=True``, said aloud. MMEngine leaves it to a default, which
  ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` changes, and which for URLs is False.
- What MMEngine would act on is taken out: a config in ``meta`` (a Python program, which ``Runner.resume`` runs), and
  the paths of files that ``CheckpointHook`` would delete, unless they lie beside the checkpoint.

A config file is another matter: it is a Python program, and whoever loads it runs it.
"""

from __future__ import annotations

import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlparse

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from surge_mm.checkpoint.pickle_programs import Program, ProgramError
from surge_mm.utils.errors import CheckpointError

END, LOCATOR, END64 = b'PK\x05\x06', b'PK\x06\x07', b'PK\x06\x06'
UNSAFE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
LONGEST = 300
"""Characters of a foreign message that are passed on."""


def guard_mmengine_loader() -> None:
    """Have MMEngine load files and URLs by :func:`load_from_file`, for the whole process."""
    if os.environ.get(UNSAFE, '0') in ('1', 'y', 'yes', 'true'):
        warnings.warn(
            f'{UNSAFE} lets checkpoints run code. Files and URLs that MMEngine loads stay checked; other uses of '
            'torch.load, as for s3:// and pavi:// addresses, are not. Unset it: surge_mm works without',
            stacklevel=2,
        )
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    mmengine_checkpoint.load_url = _load_url


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint, checked as the module says.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged or hostile, or holds no weights.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {filename!r}: there is no such file')
    check_file(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a program that PyTorch refuses may fail in any way
        raise CheckpointError(
            f'checkpoint {filename!r} cannot be read: {_in_short(error)}'
        ) from None
    try:
        _tame(checkpoint, path)
    except ProgramError as error:
        raise CheckpointError(f'checkpoint {filename!r} cannot be read: {error}') from None
    return checkpoint


def check_file(path: Path) -> None:
    """Refuse a checkpoint that is damaged, unpacks to more than it is, or does what no checkpoint needs.

    Raises:
        CheckpointError: one of these.
    """
    try:
        with path.open('rb') as file:
            if file.read(4) == b'PK\x03\x04':
                _check_archive(file, path.stat().st_size)
            elif tarfile.is_tarfile(path):
                raise ProgramError(
                    'it has the tar format of PyTorch before 0.2, which cannot be loaded safely; load it where you '
                    'trust it and save it again'
                )
            else:
                _check_stream(file, path.stat().st_size)
    except (OSError, ProgramError) as error:
        raise CheckpointError(f'checkpoint {str(path)!r} cannot be read: {error}') from None


def _check_archive(file: BinaryIO, size: int) -> None:
    """The zip format: a folder with ``data.pkl`` and a record for each storage."""
    try:
        _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            records = {entry.filename: entry.file_size for entry in archive.infolist()}
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > size:
                raise ProgramError(f'it has {size:,} bytes and unpacks to {unpacked:,}')
            if len({name.casefold() for name in records}) < len(archive.infolist()):
                raise ProgramError('it holds a record twice')
            folder = next(iter(records), '').partition('/')[0]
            if f'{folder}/constants.pkl' in records:
                raise ProgramError('it is a TorchScript program; save the state_dict of the model')
            if f'{folder}/data.pkl' not in records:
                raise ProgramError('it is a zip archive without data.pkl, no checkpoint of PyTorch')
            damaged = archive.testzip()
            if damaged:
                raise ProgramError(f'it is damaged: the checksum of {damaged!r} is wrong')

            def check_storage(key: str, nbytes: int) -> None:
                held = records.get(f'{folder}/data/{key}')
                if held != nbytes:
                    raise ProgramError(f'storage {key!r} claims {nbytes:,} bytes, it holds {held}')

            with archive.open(f'{folder}/data.pkl') as stream:
                program = Program(size, check_storage)
                program.follow(stream)  # type: ignore[arg-type]
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f'it is damaged: {_in_short(error)}') from None


def _check_directory(file: BinaryIO, size: int) -> None:
    """The directory must stand at the very end, lest PyTorch's reader of zip files finds another one than Python's."""
    tail_size = min(size, 98)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    if tail[-22:-18] != END or tail[-2:] != b'\0\0':
        raise ProgramError('it breaks off: the directory of the zip archive is not at its end')
    length, start = struct.unpack('<LL', tail[-10:-2])
    end = size - 22
    if tail[-42:-38] == LOCATOR:
        end = size - 98
        length, start = struct.unpack('<QQ', tail[-58:-42])
        if tail[:4] != END64 or struct.unpack('<Q', tail[-34:-26])[0] != end:
            raise ProgramError('it is damaged: the directory of the zip archive is not at its end')
    if start + length != end:
        raise ProgramError('it is damaged: bytes were added to the zip archive, or are missing')


def _check_stream(file: BinaryIO, size: int) -> None:
    """The format before PyTorch 1.6: pickles, then the storages."""
    storages: dict[str, int] = {}

    def check_storage(key: str, nbytes: int) -> None:
        storages[key] = max(nbytes, storages.get(key, 0))
        if sum(storages.values()) > size:
            raise ProgramError(f'its storages claim more bytes than the {size:,} of the file')

    program = Program(size, check_storage)
    file.seek(0)
    try:
        magic = program.follow(file)
    except ProgramError:
        magic = None
    if magic != torch.serialization.MAGIC_NUMBER:
        raise ProgramError('it is no checkpoint of PyTorch, or its beginning is damaged')
    for _ in ('version of the format', 'types of the machine', 'the checkpoint', 'storages'):
        program.follow(file)


def _tame(checkpoint: Any, path: Path) -> None:
    """Take out what MMEngine would act on.

    Raises:
        ProgramError: there are no weights in it, or not only such as can be loaded whole.
    """
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        raise ProgramError('it holds no dict of weights')
    for name, value in weights.items():
        if not isinstance(name, str):
            raise ProgramError(f'the name of a weight is {name!r:.50}, no text')
        if isinstance(value, Tensor) and (
            value.layout != torch.strided or value.is_quantized or value.is_meta
        ):
            raise ProgramError(f'weight {name!r:.200} is no dense tensor')
    if hasattr(weights, '_metadata'):
        weights._metadata = _tame_versions(weights._metadata)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    if isinstance(info, dict):
        _tame_info(info, path.parent.resolve())


def _tame_versions(metadata: Any) -> OrderedDict[str, dict[str, int]]:
    """Of what torch notes about each module of a state dict, the version of its format."""
    tame = OrderedDict()
    for name, of_module in dict(metadata).items() if isinstance(metadata, dict) else [('', None)]:
        version = of_module.get('version') if isinstance(of_module, dict) else 'of no kind'
        if not isinstance(name, str) or not (version is None or type(version) is int):
            raise ProgramError('the versions of its modules (_metadata) are no numbers')
        tame[name] = {} if version is None else {'version': version}
    return tame


def _tame_info(info: dict[str, Any], folder: Path) -> None:
    """Which files a run still has. ``CheckpointHook`` deletes them when there are better ones."""
    for key in [key for key in info if isinstance(key, str) and key.startswith('best_ckpt')]:
        best = info[key]
        file = Path(best).resolve() if isinstance(best, str) else Path()
        if file.parent != folder or not file.name.startswith('best_'):
            del info[key]
    steps = info.get('keep_ckpt_ids', [])
    if not (isinstance(steps, list) and all(type(step) is int for step in steps)):
        del info['keep_ckpt_ids']


def check_can_go_on(checkpoint: dict[str, Any], path: str, model: torch.nn.Module) -> None:
    """Refuse to resume from a checkpoint that lacks the state of a run, or has that of another one.

    Raises:
        CheckpointError: a part is missing or malformed, or the optimizer's is of other parameters.
    """
    for part, keys in (
        ('meta', ('epoch', 'iter')),
        ('message_hub', ('log_scalars', 'runtime_info', 'resumed_keys')),
    ):
        held = checkpoint.get(part)
        missing = [key for key in keys if not isinstance(held, dict) or key not in held]
        if missing:
            raise CheckpointError(
                f'checkpoint {path!r} holds no {part}.{missing[0]}: it is not that of a run, to go on with. To begin a '
                'new run with its weights, take --cfg-options load_from=...'
            )
    meta, hub = checkpoint['meta'], checkpoint['message_hub']
    for key in ('epoch', 'iter'):
        if type(meta[key]) is not int or meta[key] < 0:
            raise CheckpointError(f'checkpoint {path!r}: meta.{key} is no number of steps')
    if not all(isinstance(hub[key], dict) for key in hub):
        raise CheckpointError(f'checkpoint {path!r}: message_hub is malformed')
    shapes = Counter(tuple(p.shape) for p in model.parameters())
    optimizer = checkpoint.get('optimizer')
    if isinstance(optimizer, dict) and 'param_groups' in optimizer:
        try:
            count = sum(len(group['params']) for group in optimizer['param_groups'])
            held_shapes = [
                tuple(value.shape)
                for state in optimizer['state'].values()
                for value in state.values()
                if isinstance(value, Tensor) and value.ndim
            ]
        except (TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f'checkpoint {path!r}: the state of the optimizer is malformed ({error})'
            ) from None
        strange = [shape for shape in held_shapes if shape not in shapes]
        if count != shapes.total() or strange:
            why = f'has {count} parameters, the model {shapes.total()}'
            if strange:
                why = f'has a tensor of shape {strange[0]}, as no parameter of the model'
            raise CheckpointError(
                f'checkpoint {path!r}: the state of the optimizer {why}. Take the config that it was trained with'
            )


def shape_of(weight: Any) -> str:
    """A weight's shape in messages; what else stands in a checkpoint, or 'missing'."""
    if isinstance(weight, Tensor):
        return str(tuple(weight.shape))
    return 'missing' if weight is None else f'of type {type(weight).__name__}'


def _load_url(
    url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True
) -> dict[str, Any]:
    """Stands for ``torch.hub.load_state_dict_from_url``, which calls ``torch.load`` with ``weights_only=False``."""
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / Path(urlparse(url).path).name
    if not file.is_file():
        torch.hub.download_url_to_file(url, str(file), progress=progress)
    return load_from_file(str(file), map_location)


def _in_short(error: Exception) -> str:
    """The reason alone: PyTorch goes on to explain how to load the file with its protection switched off."""
    text = str(error).partition('\n\nCheck the doc')[0].rpartition('\n\n')[2]
    text = text.rpartition('WeightsUnpickler error: ')[2].partition('Please use')[0]
    text = ' '.join(text.split())[:LONGEST]
    return f'{text or "no reason given"} ({type(error).__name__})'
