"""A packed model from the config of a packed file, which may be a stranger's."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import mmengine.registry.registry as mmengine_registry
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.overrides import TorchFunctionMode

from surge_mm.deploy.convert import pack
from surge_mm.utils.errors import UsageError
from surge_mm.utils.registry_errors import explain

LONGEST = 1000
"""Characters of a message, for those of PyTorch and of the hosts hold whole arguments."""
_one_at_a_time = threading.RLock()


def build_packed(config: Mapping[str, Any], size: int) -> nn.Module:
    """The packed model of a checked config, with no numbers in it yet that mean anything.

    Args:
        config (dict): As :func:`surge_mm.deploy.packed_file.config.stored_config` gives it.
        size (int): Bytes of what will be loaded into it. A byte holds 8 weights; a model makes some more.

    Raises:
        UsageError: it cannot be built or packed.
    """
    try:
        with (
            _one_at_a_time,  # the default scope is one for all threads
            DefaultScope.overwrite_default_scope(config['default_scope']),
            _no_imports(),
            _Limit(32 * size + 2**24),
        ):
            model = MODELS.build(copy.deepcopy(ConfigDict(config['model'])))
        return pack(model)
    except Exception as error:  # whatever the classes of the hosts make of arguments
        said = ' '.join(explain(error).split())
        raise UsageError(f'its model cannot be built: {said:.{LONGEST}}') from error


class _Limit(TorchFunctionMode):
    """A number of elements that the tensors made meanwhile by :attr:`FACTORIES` do not exceed, not even for a moment.

    Numbers in a config may be any. What is computed of such tensors, and lists of Python, are not counted.
    """

    FACTORIES = (
        torch.empty,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.rand,
        torch.randn,
        torch.arange,
        torch.linspace,
    )

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.FACTORIES:
            made = func(*args, **{**kwargs, 'device': 'meta'})  # takes no memory
            self.left -= max(made.numel(), 2048)  # a small one costs its module
            if self.left < 0:
                raise UsageError('its config describes a model that is larger than the file')
        return func(*args, **kwargs)


@contextlib.contextmanager
def _no_imports() -> Iterator[None]:
    """Has MMEngine find what is registered, and nothing else, in this thread."""
    before = mmengine_registry.get_object_from_string
    here = threading.get_ident()

    def look_up(name: str) -> Any:
        return None if threading.get_ident() == here else before(name)

    mmengine_registry.get_object_from_string = look_up
    try:
        yield
    finally:
        mmengine_registry.get_object_from_string = before
