"""Gradients that are not differentiated again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Once(torch.autograd.Function):
    """Return a gradient, and raise an error where it is differentiated by the tensors that it was computed from."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, *inputs: Tensor | None) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            'a binary layer has no second derivative, and something tried to differentiate twice through it: '
            'torch.func.hessian, nested torch.func.grad, or a gradient of torch.autograd.grad(..., create_graph=True)'
        )


def once_differentiable(
    backward: Callable[[Any, Tensor, Any], tuple[Tensor | None, ...]],
) -> Callable[[Any, Tensor], tuple[Tensor | None, ...]]:
    """Let ``backward(ctx, g, tensors)`` be differentiated by no one, and give it the saved tensors of ``ctx``.

    The decorator of PyTorch of the same name makes the second derivatives of :mod:`torch.func` 0.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors  # once: activation checkpointing does not hand them out again
        if not torch.is_grad_enabled():
            return backward(ctx, g, tensors)
        with torch.no_grad():
            gradients = backward(ctx, g, tensors)
        return tuple(None if grad is None else _Once.apply(grad, g, *tensors) for grad in gradients)

    return checked
