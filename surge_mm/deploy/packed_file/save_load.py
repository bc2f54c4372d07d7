"""Saving and loading of packed models: their tensors, and the config that builds them."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from surge_mm.checkpoint.matching import find_mismatches
from surge_mm.datasets.evaluation_set import dataset_meta
from surge_mm.deploy.convert import pack
from surge_mm.deploy.packed_file.config import stored_config
from surge_mm.deploy.packed_file.config_policy import (
    check_classes,
    check_structure,
    classes_to_allow,
)
from surge_mm.deploy.packed_file.format import read_packed, write_packed
from surge_mm.deploy.packed_layers import PackedLayer
from surge_mm.registry import MODELS
from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.utils.logging import log
from surge_mm.utils.packages import require_packages
from surge_mm.utils.registry_errors import explain

SUFFIX = '.safetensors'
MAX_MESSAGE = 1000
"""Characters of a message. Those of PyTorch and of the hosts may contain whole arguments."""
_build_lock = threading.RLock()  # the default scope is one for all threads


def save_packed(
    model: nn.Module, cfg: Config, path: str | os.PathLike, overwrite: bool = False
) -> str:
    """Write a packed model, and the part of its config that inference needs, into one file.

    The file is complete or absent. Classes that :func:`load_packed` has to be told about, such as your own, are logged.

    Args:
        model (nn.Module): A model that :func:`surge_mm.deploy.pack` has packed. Its ``dataset_meta`` is stored; without
            one, that of the test set of ``cfg``.
        cfg (Config): The config that the model was built from.
        path (str | os.PathLike): The file, ``*.safetensors``.
        overwrite (bool): Whether an existing file may be replaced. Defaults to False.

    Returns:
        str: The checksum, SHA-256 in hexadecimal.

    Raises:
        UsageError: if the model is not packed or does not match ``cfg``, the config cannot be stored, the file exists
            or cannot be written, or safetensors is not installed.
    """
    check_output_path(path, overwrite)
    require_packages('deploy', 'safetensors')
    if not any(isinstance(module, PackedLayer) for module in model.modules()):
        raise UsageError(f'{type(model).__name__} is not packed: surge_mm.deploy.pack(model) first')
    meta = getattr(model, 'dataset_meta', None) or dataset_meta(cfg)
    stored = stored_config(cfg, meta)
    try:
        check_structure(stored)
        further = classes_to_allow(stored)
    except UsageError as error:
        raise UsageError(f'the config cannot be stored in a packed file: {error}') from error
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    _check_tensors(build_packed(stored), state, 'the model is not what cfg builds, packed')
    if further:
        log(f'to load {Path(path).name!r}, allow its classes: load_packed(path, allow={further})')
    return write_packed(path, stored, state)


def check_output_path(
    path: str | os.PathLike, overwrite: bool, suffixes: tuple[str, ...] = (SUFFIX,)
) -> None:
    """Check the name of a file to write.

    Args:
        path (str | os.PathLike): The file.
        overwrite (bool): Whether an existing file may be replaced.
        suffixes (tuple[str, ...]): Suffixes that the name may have. Defaults to ``('.safetensors',)``.

    Raises:
        UsageError: if the suffix is another one, the path is a folder, or the file exists and must not be replaced.
    """
    file = Path(path)
    if file.suffix not in suffixes:
        raise UsageError(f'{str(path)!r} must end in {" or ".join(suffixes)}')
    if file.is_dir():
        raise UsageError(f'{str(path)!r} is a folder; name a file')
    if file.exists() and not overwrite:
        raise UsageError(
            f'{str(path)!r} exists already: name another file, or allow to overwrite it'
        )


@MODELS.register_module()
def load_packed(
    path: str | os.PathLike,
    device: str | torch.device = 'cpu',
    allow: Collection[type | str] = (),
) -> nn.Module:
    """Load the packed model of a file, without a config file, a checkpoint or training code.

    The model is the host's detector or classifier in evaluation mode. Its attributes ``cfg`` and ``dataset_meta`` are
    those that ``mmdet.apis.inference_detector`` and ``mmpretrain.ImageClassificationInferencer`` need. In a config the
    model is ``dict(type='surge_mm.load_packed', path=...)``.

    A file from an untrusted source can neither run code nor read other files: it may name only the classes of
    :mod:`surge_mm.deploy.packed_file.allowed_classes` and those that you allow. It can describe a model that is too
    large for the memory.

    Args:
        path (str | os.PathLike): The file that :func:`save_packed` has written.
        device (str | torch.device): Device of the model. Defaults to 'cpu', for which packed layers are made.
        allow (Collection[type | str]): Further classes that the file may name, such as your own, or their full names
            (``'my_package.necks.MyNeck'``). Import their modules first. Defaults to none.

    Raises:
        CheckpointError: if the file is no packed file, is damaged, has a later version, or names a class that is not
            allowed.
        UsageError: if safetensors is not installed.
    """
    file = read_packed(path)
    content = {key: value for key, value in file.config.items() if key != 'custom_imports'}
    meta = content.pop('dataset_meta')
    try:
        check_classes(file.config, allow)
        model = build_packed(file.config)
        _check_tensors(
            model,
            file.tensors,
            f'its tensors are not those of its config (written by surge_mm {file.writer!r:.40})',
        )
        model.cfg = model._config = Config(content)
    except (UsageError, RecursionError) as error:
        message = ' '.join(str(error).split())  # names in the file may contain line breaks
        raise CheckpointError(f'packed model {str(path)!r}: {message}') from error
    model.load_state_dict(file.tensors)
    model.dataset_meta = model._dataset_meta = meta
    model.to(device).eval()
    return model


def build_packed(config: Mapping[str, Any]) -> nn.Module:
    """Build the packed model of a checked config. Its numbers are arbitrary until a state dict is loaded.

    Args:
        config (dict): Config as :func:`surge_mm.deploy.packed_file.config.stored_config` returns it.

    Raises:
        UsageError: if the model cannot be built or packed.
    """
    try:
        with _build_lock, DefaultScope.overwrite_default_scope(config['default_scope']):
            model = ROOT_MODELS.build(copy.deepcopy(ConfigDict(config['model'])))
        return pack(model)
    except Exception as error:  # classes of the hosts raise anything for wrong arguments
        message = ' '.join(explain(error).split())
        raise UsageError(f'its model cannot be built: {message:.{MAX_MESSAGE}}') from error


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
