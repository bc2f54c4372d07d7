"""Saving and loading of packed models: their tensors, and the config that builds them."""

from __future__ import annotations

import copy
import ctypes
import os
import re
import sys
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surge_mm.checkpoint.matching import find_mismatches
from surge_mm.deploy.packed_file.format import PackedFile, read_packed, write_packed
from surge_mm.deploy.packing.convert import pack
from surge_mm.deploy.real_layers.convert import restore_real, stored_real
from surge_mm.models.binarization.layer_candidates import class_path
from surge_mm.utils.errors import CheckpointError, UsageError
from surge_mm.utils.files import check_new_file
from surge_mm.utils.logging import log, warn
from surge_mm.utils.modules import is_packed
from surge_mm.utils.packages import require_packages

if TYPE_CHECKING:
    from mmengine.config import Config

SUFFIX = '.safetensors'


def save_packed(
    model: nn.Module,
    path: str | os.PathLike,
    cfg: Config | None = None,
    overwrite: bool = False,
) -> str:
    """Write a packed model, and the part of its config that inference needs, into one file.

    The file is complete or absent. Classes that :func:`load_packed` has to be told about, such as your own, are logged.

    Args:
        model (nn.Module): A model that :func:`surge_mm.deploy.pack` has packed. Its ``dataset_meta`` is stored; without
            one, that of the test set of ``cfg``. With a text classifier, the vocabulary of the test set is stored. If
            it cannot be read, or is not that of the training, the file has none, after a warning.
        path (str | os.PathLike): The file, ``*.safetensors``.
        cfg (Config, optional): The config that the model was built from. Defaults to None, for a model that no config
            built, such as one of timm: :func:`load_packed` then takes the model as an argument.
        overwrite (bool): Whether an existing file may be replaced. Defaults to False.

    Returns:
        str: The checksum, SHA-256 in hexadecimal.

    Raises:
        UsageError: if the model is not packed or does not match ``cfg``, the config cannot be stored, the file exists
            or cannot be written, or safetensors is not installed.
    """
    check_new_file(path, [SUFFIX], overwrite, advice='pass overwrite=True')
    require_packages('deploy', 'safetensors', 'numpy')
    if not is_packed(model):
        raise UsageError(f'{type(model).__name__} is not packed: surge_mm.deploy.pack(model) first')
    state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    if cfg is None:
        structure = {'class': class_path(model), 'structure': _structure(model)}
        content = {'model': None, 'dataset_meta': {}, **structure, **stored_real(model)}
        return write_packed(path, content, state)
    from surge_mm.deploy.packed_file.config_models import build_packed, config_to_store

    stored, further = config_to_store(model, cfg)
    _check_tensors(build_packed(stored), state, 'the model is not what cfg builds, packed')
    if further:
        log(f'to load {Path(path).name!r}, allow its classes: load_packed(path, allow={further})')
    return write_packed(path, stored, state)


def load_packed(
    path: str | os.PathLike,
    device: str | torch.device = 'cpu',
    allow: Collection[type | str] = (),
    model: nn.Module | None = None,
) -> nn.Module:
    """Load the packed model of a file, without a config file, a checkpoint or training code.

    The model is that of the host in evaluation mode. Its attributes ``cfg`` and ``dataset_meta`` are those that
    ``mmdet.apis.inference_detector``, ``mmpretrain.ImageClassificationInferencer`` and ``mmseg.apis.inference_model``
    need. A text classifier has its vocabulary in ``vocabulary``, the arguments of
    :func:`surge_mm.datasets.language.wordpiece.build_tokenizer`. In a config the model is
    ``dict(type='surge_mm.load_packed', path=...)``.

    A file of a model that no config built needs ``model``: the same model, built and binarized as before training.

    A file from an untrusted source can neither run code nor read other files: it may name only the classes of
    :mod:`surge_mm.deploy.packed_file.allowed_classes` and those that you allow. It can describe a model that is too
    large for the memory.

    Args:
        path (str | os.PathLike): The file that :func:`save_packed` has written.
        device (str | torch.device): Device of the model. Defaults to 'cpu', for which packed layers are made.
        allow (Collection[type | str]): Further classes that the file may name, such as your own, or their full names
            (``'my_package.necks.MyNeck'``). Import their modules first. Defaults to none.
        model (nn.Module, optional): The model that gets the tensors of the file, in place, if they fit: binarized by
            :func:`surge_mm.binarize` with the arguments of the saved one, or packed already. The config of the file is
            then not used. Defaults to None.

    Returns:
        nn.Module: The packed model.

    Raises:
        CheckpointError: if the file is no packed file, is damaged, has a later version, names a class that is not
            allowed, needs ``model``, or does not have the tensors of ``model``.
        UsageError: if safetensors is not installed, ``model`` has no binary layer, or ``device`` is a model.

    Example:
        >>> model = timm.create_model('resnet18', num_classes=10)
        >>> surge_mm.binarize(model)
        >>> load_packed('model.safetensors', model=model)
    """
    if isinstance(device, nn.Module):
        raise UsageError(
            f'device={type(device).__name__}(...) is a model. Pass it by name: load_packed(path, model=model)'
        )
    file = read_packed(path)
    trial = None if model is None or is_packed(model) else pack(copy.deepcopy(model))
    try:
        if model is not None:
            if trial is not None:  # a file that is refused must leave the model as it is
                _match(trial, file)
                model = pack(model)
            _match(model, file)
            _warn_of_differences(model, file, path)
        elif file.config['model'] is None:
            raise UsageError(
                f'it is of a model that no config built, {file.config["class"]!r:.200}. Build this model, binarize it '
                'as before, and pass it: load_packed(path, model=model)'
            )
        else:
            from surge_mm.deploy.packed_file.config_models import build_checked

            model = build_checked(file.config, allow)
            _check_tensors(
                model,
                file.tensors,
                f'its tensors are not those of its config (written by surge_mm {file.writer!r:.40})',
            )
    except (UsageError, RecursionError) as error:
        message = ' '.join(str(error).split())  # names in the file may contain line breaks
        raise CheckpointError(f'packed model {str(path)!r}: {message}') from error
    model.load_state_dict(file.tensors)
    _return_free_memory()  # of the weights before they were packed
    return model.to(device).eval()


if find_spec('mmengine') is not None:
    from surge_mm.registry import MODELS

    MODELS.register_module()(load_packed)


def _match(model: nn.Module, file: PackedFile) -> None:
    restore_real(model, file.config.get('real'))
    problem = 'its tensors are not those of the given model, packed. Build and binarize it as the saved one'
    _check_tensors(model, file.tensors, problem)


def _structure(model: nn.Module) -> str:
    """Return the modules of a model and their arguments, without addresses in memory."""
    return re.sub(r' at 0x[0-9a-f]+', '', repr(model))


def _warn_of_differences(model: nn.Module, file: PackedFile, path: Any) -> None:
    """Warn if the modules of a model differ from those of the saved one in what tensors do not show."""
    theirs = str(file.config.get('structure', '')).splitlines()
    ours = _structure(model).splitlines()
    if theirs and theirs != ours:
        pairs = zip([*theirs, ''], [*ours, ''], strict=False)
        saved, given = next(pair for pair in pairs if pair[0] != pair[1])
        warn(
            f'packed model {str(path)!r}: the given model differs from the saved one, and its outputs may: '
            f'{given.strip()!r:.200}, saved as {saved.strip()!r:.200}'
        )


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


def _return_free_memory() -> None:
    """Return the memory that the process has freed to the operating system, where its C library can: glibc."""
    if sys.platform == 'linux':
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # absent in musl
        if trim is not None:
            trim(0)
