"""An activation binarizer between two operators, without a layer: for the matrix products of attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from surge_mm.ops.binarizers.activation import ActivationBinarizer
from surge_mm.ops.binarizers.elastic import Elastic
from surge_mm.ops.once_differentiable import once_differentiable
from surge_mm.ops.surrogate import multiply_by_derivative, shift_gradient, shifted_input


class ActivationPath(torch.autograd.Function):
    """``Q_x(x + shift; alpha)`` with its surrogate gradient: ``ActivationPath.apply(x, shift, alpha, activation)``.

    ``shift`` (``(features,)``) and ``alpha`` (0-dimensional) are learned parameters of some binarizers, or None.
    """

    @staticmethod
    def forward(
        x: Tensor, shift: Tensor | None, alpha: Tensor | None, activation: ActivationBinarizer
    ) -> Tensor:
        """Return ``Q_x(x + shift; alpha)``; the arguments are those of the class."""
        return activation.values(shifted_input(x, shift), alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save what :meth:`backward` needs.

        Args:
            ctx (Any): Where to save it.
            inputs (tuple[Any, ...]): The arguments of :meth:`forward`.
            output (Tensor): Its result.
        """
        *tensors, ctx.activation = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, tensors: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of :meth:`forward`.

        Args:
            ctx (Any): What forward saved.
            g (Tensor): dL/dQ.
            tensors (tuple[Tensor, ...]): The saved tensors.
        """
        x, shift, alpha = tensors
        shifted = shifted_input(x, shift)
        grad_shift = grad_alpha = None
        if ctx.needs_input_grad[2]:
            assert isinstance(ctx.activation, Elastic)
            grad_alpha = ctx.activation.scale_gradient(shifted, alpha, g)
        g_b, _ = multiply_by_derivative(ctx.activation, shifted, alpha, g.clone())
        if ctx.needs_input_grad[1]:
            grad_shift = shift_gradient(g_b, shift)
        return g_b, grad_shift, grad_alpha, None
