"""The surrogate gradient of an activation binarizer, for layers and for products without weights."""

from __future__ import annotations

import torch
from torch import Tensor

from surge_mm.ops.binarizers.activation import ActivationBinarizer
from surge_mm.ops.chunking import in_chunks, is_transforming


def shifted_input(x: Tensor, shift: Tensor | None) -> Tensor:
    """Return ``x + shift`` in the dtype of ``x``.

    Args:
        x (Tensor): Input, ``(N, C_in, H, W)`` or ``(..., C_in)``.
        shift (Tensor, optional): Learned shift of the activation binarizer. None for ``x`` itself.
    """
    return x if shift is None else x + shift.to(x.dtype)


def shift_gradient(g_b: Tensor, shift: Tensor) -> Tensor:
    """Return the gradient of a learned shift, the sum of ``g_b`` over the axes along which the shift is repeated.

    The sum is computed in float32 or wider: in float16 it overflows above 65504.

    Args:
        g_b (Tensor): Gradient of ``x + shift``, ``(N, C_in, H, W)`` or ``(..., C_in)``.
        shift (Tensor): The shift, ``(C_in, 1, 1)`` or ``(C_in,)``, whose shape and dtype the result has.
    """
    first = g_b.dim() - shift.dim()
    axes = [*range(first), *(first + i for i, size in enumerate(shift.shape) if size == 1)]
    wide = torch.promote_types(g_b.dtype, torch.float32)
    return (g_b.sum(axes, dtype=wide) if axes else g_b).reshape(shift.shape).to(shift.dtype)


def multiply_by_derivative(
    activation: ActivationBinarizer,
    x: Tensor,
    alpha: Tensor | None,
    g_b: Tensor,
    observe: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return ``g_b dQ_x/dx``, computed in ``g_b``, and the share of ``x`` whose derivative is 0.

    Args:
        activation (ActivationBinarizer): Q_x.
        x (Tensor): Input of Q_x, any shape.
        alpha (Tensor, optional): Learned scale of Q_x, 0-dimensional.
        g_b (Tensor): Gradient of Q_x(x), of the shape of ``x``.
        observe (bool): Whether to compute the share; otherwise it is None. Defaults to False.
    """
    radius = activation.radius(x, alpha)
    if is_transforming(g_b):
        return g_b * activation.surrogate(x, radius), None
    zeros = torch.zeros((), device=x.device)
    for x_part, g_part in in_chunks(x, g_b):
        derivative = activation.surrogate(x_part, radius)
        g_part.mul_(derivative)
        if observe:
            zeros += (derivative == 0).sum()
    return g_b, zeros / max(x.numel(), 1) if observe else None
