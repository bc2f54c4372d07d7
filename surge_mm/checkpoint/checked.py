"""Read a checkpoint once, check that it fits a model, and load it.

MMEngine loads the weights that fit and warns of the others. Here, a checkpoint that does not fit is an error.
"""

from __future__ import annotations

import pickle
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint_to_model
from torch import nn

from surge_mm.checkpoint.matching import find_mismatches, named_tensors
from surge_mm.utils.errors import CheckpointError, LaunchError


def load_checked(model: nn.Module, path: str) -> dict[str, Any]:
    """Load a checkpoint of which every weight fits. Tensors that the model has no place for are logged.

    Args:
        model (nn.Module): model of the config, wrapped or not. It is unchanged after an error.
        path (str): path or address of the checkpoint.

    Returns:
        dict: the checkpoint.

    Raises:
        LaunchError: as :func:`read_checked`.
    """
    checkpoint = read_checked(model, path)
    _load_checkpoint_to_model(model, checkpoint, logger='current')
    return checkpoint


def read_checked(model: nn.Module, path: str, whole: bool = True) -> dict[str, Any]:
    """Read a checkpoint and check that it fits a model, which stays as it is, as for a Runner that loads it itself.

    Args:
        model (nn.Module): model of the config, wrapped or not.
        path (str): path or address of the checkpoint.
        whole (bool): whether every weight must fit, as for evaluation and for resuming. Otherwise one is enough, as
            for a new run that begins with the backbone of another. Defaults to True.

    Returns:
        dict: the checkpoint.

    Raises:
        LaunchError: if the checkpoint cannot be read, or lacks weights of the model or has them in other shapes.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except CheckpointError:  # its message has the path
        raise
    except FileNotFoundError as error:  # so has this one
        raise LaunchError(str(error)) from error
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise LaunchError(f'checkpoint {path!r} cannot be read: {error}') from error
    theirs = {
        name.removeprefix('module.'): value  # as MMEngine does with the state dict of a wrapper
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    inner: nn.Module = model.module if is_model_wrapper(model) else model  # type: ignore[assignment]
    if isinstance(inner, BaseTTAModel):
        inner = inner.module
    required = [
        name
        for name in inner.state_dict()
        if not name.endswith(('aux_weight', 'num_batches_tracked'))
    ]
    mismatches = find_mismatches(named_tensors(inner), theirs, required=required)
    if len(mismatches) >= len(required) or (whole and mismatches):
        raise LaunchError(
            f'checkpoint {path!r} does not match the model of the config in {len(mismatches)} of {len(required)} '
            f'tensors, first: {mismatches[0]}. Use the config that it was trained with'
        )
    return checkpoint
