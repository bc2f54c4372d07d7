"""The losses of a training step that leaves no trace."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.utils.errors import UsageError


@contextmanager
def losses_of_step(model: nn.Module, data_batch: Any) -> Iterator[list[Tensor]]:
    """Run the forward pass of a training step, and yield its losses for the block.

    Nothing is compiled. Buffers and random generators are restored at the end of the block. Scales that the step starts
    stay, for further steps: :func:`.layers.learned_activation.keep_starts` restores them.

    Args:
        model (nn.Module): Model without wrapper.
        data_batch (Any): Batch of the training data. It is copied.

    Raises:
        UsageError: if activation checkpointing hides layers, or the model does not leave its step to the optimizer
            wrapper.
    """
    step = _Step()
    hidden: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(_hides(name, layer, hidden))
        for name, layer in compensated_layers(model)
    ]
    with _no_trace(model), torch.enable_grad(), torch.compiler.set_stance('force_eager'):
        try:
            type(model).train_step(model, copy.deepcopy(data_batch), step)  # type: ignore[attr-defined]
        finally:
            for hook in hooks:
                hook.remove()
        if hidden:
            raise UsageError(
                f'{hidden[0]} is hidden from the autograd graph by activation checkpointing with use_reentrant=True'
            )
        yield step.losses


class _Step:
    """Optimizer wrapper that keeps the losses of a step and updates nothing."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def optim_context(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def update_params(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        self.losses.append(loss)

    def __getattr__(self, name: str) -> Any:
        raise UsageError(f'the model calls {name} of the optimizer wrapper in its train_step')

    def __getitem__(self, name: str) -> Any:
        raise UsageError('the model has several optimizers')


def _hides(name: str, layer: BinaryLayer, hidden: list[str]) -> Any:
    def look(*_: Any) -> None:
        if layer.training and layer.weight.requires_grad and not torch.is_grad_enabled():
            hidden.append(name)

    return look


@contextmanager
def _no_trace(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model, but those of started scales, and the random generators afterwards."""
    buffers = [
        (buffer, buffer.clone())
        for name, buffer in model.named_buffers()
        if not name.endswith('activation_scale_bits')
    ]
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
