"""A packed model from the config of a packed file, which may be a stranger's."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import mmengine.registry.registry as mmengine_registry
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.overrides import TorchFunctionMode

from surge_mm.config_errors import explain
from surge_mm.errors import UsageError

from .packing import pack


def build_packed(config: Mapping[str, Any], size: int) -> nn.Module:
    """The packed model of a checked config, with no numbers in it yet that mean anything.

    Args:
        config (dict): As :func:`surge_mm.deploy.stored_config.stored_config` gives it.
        size (int): Bytes of what will be loaded into it. A byte holds 8 weights; a model makes some more.

    Raises:
        UsageError: it cannot be built or packed.
    """
    try:
        with (
            DefaultScope.overwrite_default_scope(config['default_scope']),
            _no_imports(),
            _Limit(32 * size + 2**24),
        ):
            model = MODELS.build(copy.deepcopy(ConfigDict(config['model'])))
        return pack(model)
    except Exception as error:  # whatever the classes of the hosts make of arguments
        raise UsageError(f'its model cannot be built: {explain(error)}') from error


class _Limit(TorchFunctionMode):
    """A number of elements, of all tensors made meanwhile, that is not exceeded: numbers in a config may be any."""

    FACTORIES = (
        torch.empty,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.rand,
        torch.randn,
        torch.arange,
    )

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in self.FACTORIES:
            self.left -= max(made.numel(), 2048)  # a small one costs its module
            if self.left < 0:
                raise UsageError('its config describes a model that is larger than the file')
        return made


@contextlib.contextmanager
def _no_imports() -> Iterator[None]:
    """Has MMEngine find what is registered, and nothing else."""

    before = mmengine_registry.get_object_from_string
    mmengine_registry.get_object_from_string = lambda name: None
    try:
        yield
    finally:
        mmengine_registry.get_object_from_string = before
