"""A training step without a trace, and the number of layers with a branch that a gradient passes in its graph."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.ops import DualPathSpec
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import unwrap_model


def measure_depth(runner: Runner, data_batch: Any) -> int:
    """Run the forward pass of a training step, without a trace, and return :func:`longest_way` of its loss.

    Args:
        runner (Runner): Runner of the training.
        data_batch (Any): Batch of the training data. It is copied.

    Returns:
        int: The depth; 0 if there is no compensated layer on a way.

    Raises:
        UsageError: if activation checkpointing hides layers, or the model does not leave its step to the optimizer
            wrapper.
    """
    context = runner.optim_wrapper.optim_context
    with losses_of_step(unwrap_model(runner.model), context, data_batch) as losses:
        return max(map(longest_way, losses), default=0)


@contextmanager
def losses_of_step(model: nn.Module, optim_context: Any, data_batch: Any) -> Iterator[list[Tensor]]:
    """Run the forward pass of a training step, and yield its losses for the block.

    Nothing is compiled. Buffers and random generators are restored at the end of the block.

    Args:
        model (nn.Module): Model without wrapper.
        optim_context (Callable): Returns the context of the step for a model, as ``OptimWrapper.optim_context``.
        data_batch (Any): Batch of the training data. It is copied.

    Raises:
        UsageError: if activation checkpointing hides layers, or the model does not leave its step to the optimizer
            wrapper.
    """
    step = _Step(optim_context)
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


def longest_way(loss: Tensor) -> int:
    """Return the largest number of compensated layers on one way from a loss back to parameters and inputs.

    A layer counts each time that it is used on the way: once for a head that several levels share, since the levels are
    different ways, and n times for a layer that is applied n times in succession.

    Args:
        loss (Tensor): Result of a forward pass with gradients.
    """
    depths: dict[Any, int] = {}
    stack = [loss.grad_fn]
    while stack:
        node = stack[-1]
        following = [n for n, _ in node.next_functions if n is not None] if node else []
        waiting = [n for n in following if n not in depths]
        if waiting:
            stack += waiting
            continue
        spec = getattr(node, 'spec', None)  # of the autograd function of a binary layer
        counts = isinstance(spec, DualPathSpec) and spec.scale is not None
        depths[stack.pop()] = counts + max((depths[n] for n in following), default=0)
    return depths[loss.grad_fn]


class _Step:
    """Optimizer wrapper that keeps the losses of a step and updates nothing."""

    def __init__(self, optim_context: Any) -> None:
        self.losses: list[Tensor] = []
        self.optim_context = optim_context

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
    """Restore the buffers of a model and the random generators afterwards."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
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
