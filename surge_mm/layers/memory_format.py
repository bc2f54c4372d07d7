"""The memory format channels_last, for models whose own code was written for contiguous tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from surge_mm.layers.binary_layer import BinaryLayer

PLAIN = (nn.Conv2d, nn.ConvTranspose2d)
MOST_PASSED = 1000
"""Shapes of inputs that are remembered."""


def to_channels_last(model: nn.Module) -> nn.Module:
    """Convert the convolutions of a model to channels_last, in place. Activations then follow.

    Subclasses such as ``ConvWS2d`` keep the format of their weights, since their code may assume it. Where the code of
    the model calls ``Tensor.view`` on an activation that cannot be a view in this format, as ``x.view(len(x), -1)`` in
    MMPretrain's VGG, the call copies, as ``Tensor.reshape`` does.

    Args:
        model (nn.Module): Model to convert.

    Returns:
        nn.Module: The model itself.
    """
    for module in model.modules():
        if type(module) in PLAIN or isinstance(module, BinaryLayer):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in (
        model,
        *model.children(),
    ):  # hosts also run backbone, neck and head by themselves
        views = _Views()
        # outside the modes of other hooks: modes end in the reverse order of their beginnings
        module.register_forward_pre_hook(views.begin, with_kwargs=True, prepend=True)
        module.register_forward_hook(views.end, with_kwargs=True, always_call=True)
    return model


def is_own_hook(hook: Any) -> bool:
    """Return whether a hook of a module is one of :func:`to_channels_last`.

    Args:
        hook (Any): The hook.
    """
    return isinstance(getattr(hook, '__self__', None), _Views)


def has_hooks(module: nn.Module, before: bool = True, after: bool = True) -> bool:
    """Return whether a module has forward hooks that are not those of :func:`to_channels_last`.

    Args:
        module (nn.Module): The module.
        before (bool): Whether to look at its forward pre-hooks. Defaults to True.
        after (bool): Whether to look at its forward hooks. Defaults to True.
    """
    hooks = [*module._forward_pre_hooks.values()] if before else []
    hooks += module._forward_hooks.values() if after else []
    return not all(map(is_own_hook, hooks))


class _Views(TorchFunctionMode):
    """Let ``Tensor.view`` copy in the forward passes of a module that need it.

    A function mode costs time in each call of PyTorch. So only the first pass for inputs of given shapes runs in it,
    and all others once a pass had to copy. The hosts' ``mode`` (``'loss'``, ``'predict'``, ...) selects different code
    and counts separately.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_needed = False
        self.passed: set[Any] = set()
        """Modes and shapes that passed without a copy."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError as error:
            if func is not torch.Tensor.view or 'view size' not in str(error):
                raise
            self.is_needed = True
            return torch.Tensor.reshape(*args, **(kwargs or {}))

    def begin(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Enter the mode, unless an earlier pass did not need it, or that of an outer module is active."""
        active = isinstance(_get_current_function_mode(), _Views)
        if not active and (self.is_needed or _key(args, kwargs) not in self.passed):
            self.__enter__()

    def end(self, module: nn.Module, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Leave the mode, and keep whether the pass needed it. ``out`` is None if the pass failed."""
        if _get_current_function_mode() is self:
            self.__exit__(None, None, None)
            if out is not None and not self.is_needed:
                if len(self.passed) >= MOST_PASSED:
                    self.passed.clear()
                self.passed.add(_key(args, kwargs))


def _key(args: Any, kwargs: dict[str, Any]) -> Any:
    """Return the mode of the host and the shapes of the first argument: an image, or feature maps."""
    if torch.compiler.is_compiling():
        return kwargs.get('mode')  # sizes are symbols
    first = args[0] if args else next(iter(kwargs.values()), None)
    tensors = first if isinstance(first, (tuple, list)) else [first]
    return kwargs.get('mode'), *(t.shape for t in tensors if isinstance(t, Tensor))
