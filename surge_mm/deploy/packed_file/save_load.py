"""A packed model to a file and back: its tensors, and the config that builds it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from surge_mm.checkpoint.matching import find_mismatches
from surge_mm.datasets.evaluation_set import dataset_meta
from surge_mm.deploy.packed_file.build import build_packed
from surge_mm.deploy.packed_file.config import stored_config
from surge_mm.deploy.packed_file.config_policy import check_config
from surge_mm.deploy.packed_file.format import (
    each_once,
    read_packed,
    safetensors_torch,
    write_packed,
)
from surge_mm.deploy.packed_layers import PackedLayer
from surge_mm.registry import MODELS
from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.version import __version__

SUFFIX = '.safetensors'


def save_packed(
    model: nn.Module, cfg: Config, path: str | os.PathLike, overwrite: bool = False
) -> str:
    """Write a packed model and what inference needs of its config into one file, whole or not at all.

    Args:
        model (nn.Module): As :func:`surge_mm.deploy.pack` leaves it. Its ``dataset_meta`` goes along; where it has
            none, what the test set of ``cfg`` says.
        cfg (Config): The config that the model was built from.
        path (str): The file, ``*.safetensors``.
        overwrite (bool): Whether a file of that name may be replaced. Defaults to False.

    Returns:
        str: The checksum, SHA-256 in hexadecimal.

    Raises:
        UsageError: the model is not packed, or not what ``cfg`` builds; the config cannot be stored; the file is there
            already or cannot be written; safetensors is not installed.
    """
    check_out(path, overwrite)
    safetensors_torch()
    if not any(isinstance(module, PackedLayer) for module in model.modules()):
        raise UsageError(f'{type(model).__name__} is not packed: surge_mm.deploy.pack(model) first')
    meta = getattr(model, 'dataset_meta', None) or dataset_meta(cfg)
    stored = stored_config(cfg, meta)
    try:
        check_config(stored)
    except UsageError as error:
        raise UsageError(f'the config cannot be stored in a packed file: {error}') from error
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    size = sum(value.nbytes for value in each_once(state)[0].values())
    _check_tensors(build_packed(stored, size), state, 'the model is not what cfg builds, packed')
    return write_packed(path, stored, state)


def check_out(
    path: str | os.PathLike, overwrite: bool, suffixes: tuple[str, ...] = (SUFFIX,)
) -> None:
    """Refuse a name of a file to be written.

    Raises:
        UsageError: it ends in none of ``suffixes``, is a folder, or is there and ``overwrite`` does not allow it.
    """
    file = Path(path)
    if file.suffix not in suffixes:
        raise UsageError(f'{str(path)!r} must end in {" or ".join(suffixes)}')
    if file.is_dir():
        raise UsageError(f'{str(path)!r} is a folder; name a file')
    if file.exists() and not overwrite:
        raise UsageError(
            f'{str(path)!r} is there already: name another file, or allow to overwrite it'
        )


@MODELS.register_module()
def load_packed(path: str | os.PathLike, device: str | torch.device = 'cpu') -> nn.Module:
    """The packed model of a file, ready to infer: no config file, no checkpoint and no training code is needed.

    It is the host's detector or classifier, in evaluation mode, with ``cfg`` and ``dataset_meta`` as
    ``mmdet.apis.inference_detector`` reads them, and with what ``mmpretrain.ImageClassificationInferencer`` reads. In a
    config it is ``model=dict(type='surge_mm.load_packed', path=...)``.

    Args:
        path (str): The file, as :func:`save_packed` writes it.
        device (str): Where the model shall be. Defaults to 'cpu', for which packed layers are made.

    Raises:
        CheckpointError: it is no packed file, is damaged, of a later version, or holds what no packed file needs;
            nothing of it was loaded.
        UsageError: there is no such device; safetensors is not installed.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f'device={str(device)!r}: {str(error).splitlines()[0]}') from error
    file = read_packed(path)
    try:
        model = build_packed(file.config, file.size)
        writer = (
            ''
            if file.writer == __version__
            else f' (it was written by surge_mm {file.writer!r:.40})'
        )
        _check_tensors(model, file.tensors, f'its tensors are not those of its config{writer}')
    except UsageError as error:
        raise CheckpointError(f'packed model {str(path)!r}: {error}') from error
    model.load_state_dict(file.tensors)
    content = {key: value for key, value in file.config.items() if key != 'custom_imports'}
    meta = content.pop('dataset_meta')
    model.cfg = model._config = Config(content)
    model.dataset_meta = model._dataset_meta = meta
    return model.to(device).eval()


def _check_tensors(model: nn.Module, tensors: Mapping[str, Tensor], problem: str) -> None:
    """Check that the tensors are exactly those of the model, with its shapes and dtypes.

    Raises:
        UsageError: if one is missing, is not expected, or has another shape or dtype.
    """
    own = model.state_dict()
    mismatches = find_mismatches(
        own,
        tensors,
        required=own,
        unexpected=[name for name in tensors if name not in own],
        compare_dtypes=True,
    )
    if mismatches:
        raise UsageError(
            f'{problem}: {len(mismatches)} of {len(own)} tensors differ, first: {mismatches[0]}'
        )
