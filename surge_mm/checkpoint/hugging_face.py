"""Read a model of Hugging Face transformers from a local folder, without transformers and without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.utils.packages import require_packages

SAFE, PICKLE = 'model.safetensors', 'pytorch_model.bin'


class SavedModel(NamedTuple):
    """A model of a folder.

    Attributes:
        config (dict): Content of ``config.json``.
        tensors (dict[str, Tensor]): Tensors by name.
        path (Path): File of the tensors.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    path: Path


def read_folder(folder: str) -> SavedModel:
    """Read ``config.json`` and the tensors of ``model.safetensors`` or, without it, ``pytorch_model.bin``.

    No code of the folder is run: ``pytorch_model.bin`` is read with ``weights_only=True``.

    Args:
        folder (str): The folder. ``~`` is expanded.

    Raises:
        UsageError: if the folder or a file is missing, or safetensors is needed and not installed.
        CheckpointError: if a file cannot be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise UsageError(
            f'folder={folder!r} is no folder. The name of a repository of a hub is not downloaded: get its files '
            f'config.json and {SAFE} (or {PICKLE}) first, and name the folder that has them'
        )
    config = _read_config(root / 'config.json')
    for name in (SAFE, PICKLE):
        if (root / name).is_file():
            return SavedModel(config, _read_tensors(root / name), root / name)
    advice = f'Save the model as {SAFE}'
    if (root / f'{SAFE}.index.json').is_file() or (root / f'{PICKLE}.index.json').is_file():
        advice = (
            f'Its weights are in several files, which are not read: save the model as one, {SAFE}'
        )
    raise UsageError(f'folder={folder!r} has neither {SAFE} nor {PICKLE}. {advice}')


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(
            f'folder={str(path.parent)!r} has no config.json: it is no folder of a model that Hugging Face '
            'transformers has saved'
        )
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise CheckpointError(f'{str(path)!r} is no JSON: {error}. Save the model again') from error
    if not isinstance(config, dict):
        raise CheckpointError(f'{str(path)!r} must hold a dict, got {type(config).__name__}')
    return config


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.name == SAFE:
            require_packages('deploy', 'safetensors')
            from safetensors.torch import load_file

            return load_file(path)
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # a malformed pickle can raise any exception
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            f'{str(path)!r} cannot be read: {reason}. Download or save it again'
        ) from None
    if not isinstance(tensors, dict) or not all(torch.is_tensor(t) for t in tensors.values()):
        raise CheckpointError(f'{str(path)!r} holds no dict of tensors. Save the model as {SAFE}')
    return tensors
