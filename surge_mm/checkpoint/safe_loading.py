"""Load checkpoints without running code from them.

A checkpoint is a pickle, and a pickle can call any function. :func:`load_from_file` replaces MMEngine's loader (see
:mod:`surge_mm.compat`), so the following holds for ``load_from``, ``resume``, ``init_cfg=dict(type='Pretrained', ...)``
and ``init_detector``, for files and for URLs:

- ``torch.load`` is always called with ``weights_only=True``. MMEngine leaves the argument to a default, which the
  variable ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` changes, and passes False for URLs. The calls that a checkpoint of
  MMEngine needs are allowed in :mod:`surge_mm.checkpoint.safe_globals`.
- Entries on which MMEngine acts are removed: ``meta.config``, which ``Runner.resume`` executes as Python, and paths
  with which ``CheckpointHook`` would delete files outside the folder of the checkpoint.
- A truncated or modified zip archive is rejected by its checksums.

Limits:

- The memory that a checkpoint takes is bounded only for zip archives, whose records may not unpack to more bytes than
  the file has. A pickle can still allocate more memory than its size suggests, for instance by ``bytearray(2**40)``.
  Load files from unknown sources under a memory limit of the operating system (``ulimit -v``).
- That the storage of a tensor has the size that the pickle declares is checked by PyTorch itself, since 2.10 (pull
  request 165553). Earlier versions can read beyond the storage of a manipulated file.

A config file is a Python program. Loading it executes it.
"""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from surge_mm.utils.errors import CheckpointError

UNSAFE_VARIABLE = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
ZIP_HEADER = b'PK\x03\x04'
LEGACY_HEADER = pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)
"""First bytes of a checkpoint in the format of PyTorch before 1.6."""
MAX_REASON_LENGTH = 300


def load_from_file(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint file without running code from it.

    Args:
        filename (str): path of the file. ``~`` is expanded.
        map_location (str | torch.device | Callable, optional): as in ``torch.load``. Defaults to None.

    Returns:
        dict: the checkpoint, without the entries on which MMEngine acts.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if the file is damaged, contains a call that is not allowed, or holds no weights.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {filename!r} does not exist')
    check_file(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a malformed pickle can raise any exception
        raise _unreadable(path, _short_reason(error)) from None
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise _unreadable(path, 'it has no state dict with a name for each weight')
    _remove_commands(checkpoint, path.parent.resolve())
    return checkpoint


def load_from_url(
    url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True
) -> dict[str, Any]:
    """Download a checkpoint and load it by :func:`load_from_file`.

    It replaces ``torch.hub.load_state_dict_from_url``, which MMEngine calls without ``weights_only=True``.

    Args:
        url (str): address of the checkpoint.
        model_dir (str, optional): folder of the downloaded file. Defaults to ``checkpoints`` in that of ``torch.hub``.
        map_location (str | torch.device | Callable, optional): as in ``torch.load``. Defaults to None.
        progress (bool): whether to show a progress bar. Defaults to True.

    Returns:
        dict: the checkpoint.

    Raises:
        CheckpointError: as :func:`load_from_file`.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / Path(urlparse(url).path).name
    if not file.is_file():
        torch.hub.download_url_to_file(url, str(file), progress=progress)
    return load_from_file(str(file), map_location)


def check_file(path: Path) -> None:
    """Check the checksums and the unpacked size of a checkpoint file; nothing is loaded.

    Files in the format of PyTorch before 1.6 have no checksums; only their first bytes are checked.

    Args:
        path (Path): the file.

    Raises:
        CheckpointError: if it is damaged, unpacks to more bytes than it has, or is not a checkpoint of PyTorch.
    """
    try:
        with path.open('rb') as file:
            header = file.read(len(LEGACY_HEADER))
        if header.startswith(ZIP_HEADER):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(record.file_size for record in archive.infolist())
                size = path.stat().st_size
                if unpacked > size:
                    raise ValueError(
                        f'its {size:,} bytes unpack to {unpacked:,} bytes; checkpoints of PyTorch are not compressed'
                    )
                damaged = archive.testzip()
            if damaged:
                raise ValueError(f'the checksum of {damaged!r} is wrong')
        elif header != LEGACY_HEADER:
            raise ValueError('it is not a checkpoint of PyTorch, or it is damaged')
    except Exception as error:  # zipfile raises exceptions of many types on damaged archives
        raise _unreadable(path, _short_reason(error)) from None


def warn_if_unprotected() -> None:
    """Warn if the environment turns off ``weights_only`` in calls of ``torch.load`` outside MMEngine's loader."""
    if os.environ.get(UNSAFE_VARIABLE, '0') in ('1', 'y', 'yes', 'true'):
        warnings.warn(
            f'{UNSAFE_VARIABLE} allows checkpoints to run code in every call of torch.load that does not set '
            'weights_only, such as for s3:// addresses. surge_mm does not need the variable: unset it',
            stacklevel=2,
        )


def check_is_resumable(checkpoint: dict[str, Any], path: str) -> None:
    """Check that a checkpoint holds the state of a training run, not only weights.

    Args:
        checkpoint (dict): the loaded checkpoint.
        path (str): its file name, for the error message.

    Raises:
        CheckpointError: if the progress or the log of the run is missing or malformed.
    """
    expected: dict[str, dict[str, type]] = {
        'meta': {'epoch': int, 'iter': int},
        'message_hub': {'log_scalars': dict, 'runtime_info': dict, 'resumed_keys': dict},
    }
    for part, types in expected.items():
        held = checkpoint.get(part)
        for key, kind in types.items():
            if not isinstance(held, dict) or not isinstance(held.get(key), kind):
                raise CheckpointError(
                    f'checkpoint {path!r} has no valid {part}.{key}: it is not the checkpoint of a training run. To '
                    'start a new run from its weights, use --cfg-options load_from=...'
                )


def _remove_commands(checkpoint: dict[str, Any], folder: Path) -> None:
    """Remove the entries of a checkpoint from which MMEngine would run code or delete files."""
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        meta.pop('config', None)
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, dict) else None
    if not isinstance(info, dict):
        return
    # CheckpointHook deletes the file best_ckpt... when a better one is saved
    for key in [key for key in info if str(key).startswith('best_ckpt')]:
        best = Path(info[key]).resolve() if isinstance(info[key], str) else Path()
        if best.parent != folder or not best.name.startswith('best_'):
            del info[key]
    # and builds the names of files to delete from keep_ckpt_ids
    steps = info.get('keep_ckpt_ids', [])
    if not isinstance(steps, list) or not all(isinstance(step, int) for step in steps):
        del info['keep_ckpt_ids']


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f'checkpoint {str(path)!r} cannot be read: {reason}')


def _short_reason(error: Exception) -> str:
    """Return the reason without PyTorch's advice, which is to load the file unprotected."""
    text = str(error).partition('\n\nCheck the doc')[0].rpartition('\n\n')[2]
    text = text.rpartition('WeightsUnpickler error: ')[2].partition('Please use')[0]
    text = ' '.join(text.split())[:MAX_REASON_LENGTH]
    return f'{text or "no reason given"} ({type(error).__name__})'
