r"""SURGE's two ideas: the Dual-Path Gradient Compensator (DPGC) and the Adaptive Gradient Scaler (AGS).

Source: Surrogate Gradient Adaptation in Binary Neural Networks, arXiv 2605.10989.

**DPGC.** Beside the binary path stands a full-precision branch of the same shape, whose value cancels and whose
gradient stays (``down`` stops the gradient)::

    f_b(x; W_b) = Q_W(W_b) * Q_x(x)                 the binary path, * a convolution or matrix product
    f_a(x; W_a) = W_a * x                           the auxiliary branch
    output      = f_b - down(lam f_a) + lam f_a

In exact arithmetic the output is f_b. So the branch's forward is never computed here, and the output is f_b to the bit.
With ``g = dL/d(output)``::

    dL/dx   = g_b + lam g_a        g_b: the surrogate gradient;  g_a = W_a transposed * g, unclipped
    dL/dW_b = the surrogate gradient, which the branch does not touch
    dL/dW_a = lam (x correlated with g)

Sign, clip mask and binary weights are made again in the backward pass: of activations, only x is kept. Of a step's five
convolutions STE has three: the forward, and the gradients of x and W_b; the branch adds those of x and W_a. A tied
branch (W_a = W_b, which dL/dW_a then leaves alone) adds one.

**AGS.** The scale of each layer, from the norms over the whole mini-batch at the layer's input, in the same backward
pass and without a host synchronisation::

    lam = eta ||g_b|| / (||g_a|| + eps),        eps = 1e-8

A norm that is not finite makes lam 0: the branch's terms are then left out by selection (0 times infinity is NaN) and
the event is counted; so it is where the gradient of W_a alone is not finite. A gradient g that is itself not finite
stays visible in dL/dx and dL/dW_b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from surge_mm.ops.activation_binarizers import ActivationBinarizer, sign
from surge_mm.ops.chunking import in_blocks
from surge_mm.ops.gradient_scale import AdaptiveScale, FixedScale, apply_adaptive, apply_fixed
from surge_mm.ops.linear_maps import BilinearMap
from surge_mm.ops.weight_binarizers import WeightBinarizer


@dataclass(frozen=True)
class DualPathSpec:
    """All of a layer that is not a tensor.

    Args:
        map: The convolution or the linear map.
        activation: Q_x.
        weight: Q_W.
        scale: What makes lam. None, or one that is false: the gradients are those of the plain binary layer.
        pad_value: What stands round a binary input. (The branch's real input has zeros there.)
        compute_dtype: The dtype of the products under autocast, else None.
        observe: Whether this backward pass also writes ``cos`` and ``clipped``.
    """

    map: BilinearMap
    activation: ActivationBinarizer
    weight: WeightBinarizer
    scale: FixedScale | AdaptiveScale | None = None
    pad_value: float = 0.0
    compute_dtype: torch.dtype | None = None
    observe: bool = False


def infer(
    x: Tensor,
    w_b: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    gain: Tensor | None,
    spec: DualPathSpec,
) -> Tensor:
    """The output of a trained layer, without a gradient; arguments as for :class:`DualPath`.

    The sums are those of signs with signs, whole numbers that float32 holds exactly in any order, and are scaled
    afterwards. So the output does not depend on threads or memory format, and a packed engine gives it to the bit. It
    equals that of :class:`DualPath`, whose sums are of scaled weights, up to rounding::

        f_b = (gain scale) (sign(z) * Q_x) + (gain offset) (1 * Q_x) + bias          Q_W = scale sign(z) + offset
    """
    q_x = spec.activation(_shifted(x, shift))
    two = spec.weight.two_values(w_b.contiguous())  # means depend on the order in memory
    if two is None:
        q_w = spec.weight(w_b)
        return spec.map.forward(q_x, q_w if gain is None else q_w * gain, bias, spec.pad_value)
    scale, offset = two.scale, two.offset
    if gain is not None:
        scale, offset = scale * gain, None if offset is None else offset * gain
    signs = torch.empty_like(w_b).copy_(sign(two.z))  # in the memory format of the weights
    out = spec.map.forward(q_x, signs, None, spec.pad_value)
    out *= spec.map.per_filter(scale)
    if offset is not None:
        out += spec.map.window_sums(q_x, two.z, spec.pad_value) * spec.map.per_filter(offset)
    return out if bias is None else out.add_(spec.map.per_filter(bias))


class DualPath(torch.autograd.Function):
    """One binary convolution or linear layer with DPGC and AGS; see the module for the formulas.

    ``DualPath.apply(x, w_b, bias, w_a, shift, gain, warmup, statistics, spec)``: ``w_a`` is None for a plain binary
    layer, ``shift`` (``(C_in, 1, 1)`` or ``(C_in,)``) and ``gain`` (``(C_out, 1, ...)``) are what binarisers have
    learned, or None: ``f_b = gain Q_W(W_b) * Q_x(x + shift)``. ``warmup`` is a 0-dimensional factor of eta,
    ``statistics`` a vector as :data:`STATISTICS` says, which each backward pass under AGS writes; both for AGS alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_b: Tensor,
        bias: Tensor | None,
        w_a: Tensor | None,
        shift: Tensor | None,
        gain: Tensor | None,
        warmup: Tensor | None,
        statistics: Tensor | None,
        spec: DualPathSpec,
    ) -> Tensor:
        ctx.save_for_backward(x, w_b, w_a, shift, gain)
        ctx.warmup, ctx.statistics, ctx.spec = warmup, statistics, spec
        ctx.bias_dtype = None if bias is None else bias.dtype
        q_x, q_w = spec.activation(_shifted(x, shift)), spec.weight(w_b)
        q_w = q_w if gain is None else q_w * gain
        if spec.compute_dtype is not None:
            q_x, q_w = q_x.to(spec.compute_dtype), q_w.to(spec.compute_dtype)
            bias = None if bias is None else bias.to(spec.compute_dtype)
        return spec.map.forward(q_x, q_w, bias, spec.pad_value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w_b, w_a, shift, gain = ctx.saved_tensors
        spec: DualPathSpec = ctx.spec
        need_x, need_w, need_bias, need_a, need_shift, need_gain = ctx.needs_input_grad[:6]
        scale = spec.scale if need_x or need_a else None
        adaptive = bool(scale) and isinstance(scale, AdaptiveScale)

        # AGS needs both norms at the input, even where the input itself needs no gradient.
        mask = (need_x or need_shift or adaptive, need_w or need_gain)
        shifted, signs = _shifted(x, shift), spec.weight(w_b)
        q_w = signs if gain is None else signs * gain
        q_x = spec.activation(shifted).to(g.dtype)
        g_b, grad_w = spec.map.backward(g, q_x, q_w.to(g.dtype), spec.pad_value, mask)
        del q_x, q_w
        if g_b is not None:
            g_b = g_b.to(x.dtype)
            clipped = _surrogate(spec.activation, shifted, g_b, adaptive and spec.observe)
            if clipped is not None:
                ctx.statistics[4] = clipped
        del shifted
        grad_shift = grad_b = grad_gain = None
        if g_b is not None and need_shift:
            grad_shift = g_b.sum_to_size(shift.shape).to(shift.dtype)
        if grad_w is not None:
            grad_w = grad_w.to(w_b.dtype)
            if need_gain:
                grad_gain = (grad_w * signs).sum_to_size(gain.shape)
            if need_w:
                grad_b = spec.weight.gradient(w_b, grad_w if gain is None else grad_w * gain)
        grad_bias = spec.map.bias_gradient(g).to(ctx.bias_dtype) if need_bias else None
        grad_a = None
        if not scale:  # torch.compile 2.12 takes eta for a symbol, and "if scale" for false
            grad_a = torch.zeros_like(w_a) if need_a else None
        else:
            mask = (need_x or adaptive, need_a)
            grad_a = _compensate(spec, scale, g, x, w_a, g_b, mask, ctx.warmup, ctx.statistics)
        grad_x = g_b if need_x else None
        return grad_x, grad_b, grad_bias, grad_a, grad_shift, grad_gain, None, None, None


def _shifted(x: Tensor, shift: Tensor | None) -> Tensor:
    return x if shift is None else x + shift.to(x.dtype)


def _surrogate(
    activation: ActivationBinarizer, x: Tensor, g_b: Tensor, observe: bool
) -> Tensor | None:
    """``g_b dQ_x/dx``, in place; returns the share of ``x`` whose derivative is 0, if asked to observe."""
    zeros = torch.zeros((), device=x.device)
    for x_part, g_part in in_blocks(x, g_b):
        derivative = activation.derivative(x_part)
        g_part.mul_(derivative)
        if observe:
            zeros += (derivative == 0).sum()
    return zeros / max(x.numel(), 1) if observe else None


def _compensate(
    spec: DualPathSpec,
    scale: FixedScale | AdaptiveScale,
    g: Tensor,
    x: Tensor,
    w_a: Tensor,
    g_b: Any,
    mask: tuple[bool, bool],
    warmup: Tensor,
    statistics: Tensor,
) -> Tensor | None:
    """Add ``lam g_a`` to ``g_b`` in place; returns dL/dW_a."""
    g_a, grad_a = spec.map.backward(g, x.to(g.dtype), w_a.to(g.dtype), 0.0, mask)
    g_a = None if g_a is None else g_a.to(x.dtype)
    grad_a = None if grad_a is None else grad_a.to(w_a.dtype)
    if isinstance(scale, FixedScale):
        return apply_fixed(scale, g_b, g_a, grad_a)
    assert g_a is not None
    return apply_adaptive(scale, g_b, g_a, grad_a, warmup, statistics, spec.observe)
