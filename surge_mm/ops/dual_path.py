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

Sign, clip mask and binary weights are made again in the backward pass: of activations, only x is kept.

**AGS.** The scale of each layer, from the norms over the whole mini-batch at the layer's input, in the same backward
pass and without a host synchronisation::

    lam = eta ||g_b|| / (||g_a|| + eps),        eps = 1e-8

A norm that is not finite makes lam 0: the branch's terms are then left out by selection (0 times infinity is NaN) and
the event is counted; so it is where the gradient of W_a alone is not finite. A gradient g that is itself not finite
stays visible in dL/dx and dL/dW_b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .activations import ActivationBinarizer
from .weights import WeightBinarizer

EPS = 1e-8
STATISTICS = ('lam', 'norm_b', 'norm_a', 'cos', 'clipped', 'non_finite')
"""What one backward pass under AGS writes, in this order. ``cos`` = cos(g_b, g_a) and ``clipped`` (the share of
activations whose surrogate derivative is 0) are written when asked for; ``non_finite`` counts."""


class BilinearMap(Protocol):
    """What both layers compute: a map linear in its input and in its weight."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        """``w * x + bias``."""

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of ``(w * x, g)`` for x and w, each where ``mask`` asks for it."""

    def bias_gradient(self, g: Tensor) -> Tensor:
        """The gradient of the bias."""


@dataclass(frozen=True)
class Convolution:
    """``(N, C_in, H, W) -> (N, C_out, H', W')`` with weights ``(C_out, C_in / groups, kH, kW)``.

    ``padding`` counts rows and columns as :func:`torch.nn.functional.pad` does: (left, right, top, bottom).
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def _pads_itself(self, pad_value: float) -> bool:
        left, right, top, bottom = self.padding
        return pad_value == 0 and left == right and top == bottom

    def _prepare(self, x: Tensor, pad_value: float) -> tuple[Tensor, list[int]]:
        left, _, top, _ = self.padding
        if self._pads_itself(pad_value):
            return x, [top, left]
        return F.pad(x, self.padding, value=pad_value), [0, 0]

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        x, padding = self._prepare(x, pad_value)
        return F.conv2d(x, w, bias, self.stride, padding, self.dilation, self.groups)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        height, width = x.shape[-2:]
        left, _, top, _ = self.padding
        x, padding = self._prepare(x, pad_value)
        grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
            g,
            x,
            w,
            None,
            self.stride,
            padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            [*mask, False],
        )
        if mask[0] and not self._pads_itself(pad_value):
            grad_x = grad_x[..., top : top + height, left : left + width]
        return grad_x, grad_w

    def bias_gradient(self, g: Tensor) -> Tensor:
        return g.sum(dim=(0, 2, 3))


@dataclass(frozen=True)
class LinearMap:
    """``(..., C_in) -> (..., C_out)`` with weights ``(C_out, C_in)``; no border, so no use for ``pad_value``."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        return F.linear(x, w, bias)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        grad_x = g @ w if mask[0] else None
        grad_w = g.flatten(0, -2).t() @ x.flatten(0, -2) if mask[1] else None
        return grad_x, grad_w

    def bias_gradient(self, g: Tensor) -> Tensor:
        return g.flatten(0, -2).sum(dim=0)


@dataclass(frozen=True)
class FixedScale:
    """DPGC with ``lam = scale``; false where that is 0."""

    scale: float

    def __bool__(self) -> bool:
        return self.scale != 0


_sync_group: Any = (
    None  # not in AdaptiveScale, for models are copied and pickled and groups cannot be
)


def set_sync_group(group: Any) -> None:
    """Sum the norms of layers with ``sync`` in this process group; None is that of all ranks."""
    global _sync_group
    _sync_group = group


@dataclass(frozen=True)
class AdaptiveScale:
    """AGS: ``lam = eta ||g_b|| / (||g_a|| + eps)``; false where eta is 0.

    ``preserve_norm`` corrects the direction of the gradient and keeps its length, so that it does not grow from layer
    to layer: ``dL/dx = (g_b + lam g_a) ||g_b|| / ||g_b + lam g_a||``. With ``sync`` the squared norms are summed over
    all ranks, in the group that :func:`set_sync_group` was given, and lam is that of the joined batch.
    """

    eta: float
    preserve_norm: bool = False
    sync: bool = False

    def __bool__(self) -> bool:
        return self.eta != 0


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
        derivative: Any = None
        if g_b is not None:
            derivative = spec.activation.derivative(shifted)
            g_b = g_b.to(x.dtype).mul_(derivative)
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
        learned = (grad_shift, grad_gain, None, None, None)

        if not scale:
            grad_a = torch.zeros_like(w_a) if need_a else None
            return (g_b if need_x else None), grad_b, grad_bias, grad_a, *learned

        mask = (need_x or adaptive, need_a)
        g_a, grad_a = spec.map.backward(g, x.to(g.dtype), w_a.to(g.dtype), 0.0, mask)
        grad_a = None if grad_a is None else grad_a.to(w_a.dtype)
        grad_x = None
        if isinstance(scale, FixedScale):
            grad_a = None if grad_a is None else grad_a.mul_(scale.scale)
            if g_a is not None and g_b is not None:
                grad_x = g_a.to(x.dtype).mul_(scale.scale).add_(g_b)
        elif g_a is not None and g_b is not None:
            share = torch.eq(derivative, 0).float().mean() if spec.observe else None
            grad_x, grad_a = _adaptive(
                scale, ctx.warmup, ctx.statistics, g_b, g_a.to(x.dtype), grad_a, share
            )
        return (grad_x if need_x else None), grad_b, grad_bias, grad_a, *learned


def _shifted(x: Tensor, shift: Tensor | None) -> Tensor:
    return x if shift is None else x + shift.to(x.dtype)


def _adaptive(
    scale: AdaptiveScale,
    warmup: Tensor,
    statistics: Tensor,
    g_b: Tensor,
    g_a: Tensor,
    grad_a: Tensor | None,
    clipped: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """AGS: dL/dx from both gradients at the input, and ``lam grad_a``; writes the statistics. ``g_a`` is used up."""
    norm_b, norm_a = _norm(g_b, scale.sync), _norm(g_a, scale.sync)
    lam = scale.eta * norm_b / (norm_a + EPS) * warmup
    finite = torch.isfinite(lam) & torch.isfinite(norm_a)
    # x of infinity gives W_a an infinite gradient, of which both norms know nothing where the surrogate hides it
    finite_a = finite if grad_a is None else finite & torch.isfinite(_norm(grad_a, sync=False))
    lam = torch.where(finite, lam, 0)
    statistics[:3] = torch.stack((lam, norm_b, norm_a))
    statistics[5] += ~finite_a
    if clipped is not None:
        wide = norm_b.dtype
        cos = F.cosine_similarity(g_b.flatten().to(wide), g_a.flatten().to(wide), dim=0)
        statistics[3] = cos.nan_to_num(0, 0, 0)
        statistics[4] = clipped.nan_to_num(0)  # of an empty batch

    use = lam > 0
    grad_x = torch.where(use, g_a.mul_(lam).add_(g_b), g_b)
    if scale.preserve_norm:
        norm = _norm(grad_x, scale.sync)
        grad_x.mul_(torch.where(use & (norm > 0), norm_b / norm, 1))
    if grad_a is not None:
        grad_a = torch.where(use & finite_a, grad_a.mul_(lam), 0)
    return grad_x, grad_a


def _norm(x: Tensor, sync: bool) -> Tensor:
    """``||x||_2`` over all elements, accumulated in float32 or wider; 0-dimensional.

    With ``sync``: of the gradient for the joined batch, whose loss is the mean of the ranks' losses.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    local = torch.linalg.vector_norm(x, dtype=wide)
    if not sync:
        return local
    squared = local.double().square()
    torch.distributed.all_reduce(squared, group=_sync_group)
    return (squared.sqrt() / torch.distributed.get_world_size(_sync_group)).to(wide)
