r"""SURGE's two ideas: the Dual-Path Gradient Compensator (DPGC) and the Adaptive Gradient Scaler (AGS).

Source: Surrogate Gradient Adaptation in Binary Neural Networks, arXiv 2605.10989.

**DPGC.** A full-precision auxiliary branch of the same shape runs beside the binary path. Its value cancels and its
gradient remains (``down`` stops the gradient)::

    f_b(x; W_b) = Q_W(W_b) * Q_x(x)                 the binary path, * a convolution or matrix product
    f_a(x; W_a) = W_a * x                           the auxiliary branch
    output      = f_b - down(lam f_a) + lam f_a

In exact arithmetic the output is f_b. So the forward of the branch is never computed, and the output is f_b to the bit.
With ``g = dL/d(output)``::

    dL/dx   = g_b + lam g_a        g_b: the surrogate gradient;  g_a = W_a transposed * g, not clipped
    dL/dW_b = the surrogate gradient, independent of the branch
    dL/dW_a = lam (x correlated with g)

**AGS.** The scale factor of each layer, from norms over the whole mini-batch at the layer's input, in the same backward
pass and without a host synchronization (:mod:`surge_mm.ops.gradient_scale`)::

    lam = eta ||g_b|| / (||g_a|| + eps),        eps = 1e-8

With a scale of one's own, lam may have several elements, such as one per input channel. The branch is then that of the
scaled input, ``f_a(lam x; W_a)``, and ``dL/dW_a = (lam x) correlated with g``.

Cost. Signs, clip mask and binary weights are recomputed in the backward pass: x is the only activation that is saved. A
training step has five convolutions: three as in STE (the forward, and the gradients of x and W_b) and two of the branch
(the gradients of x and W_a). A tied branch (W_a = W_b, not trained by dL/dW_a) adds only one. Where Q_W and Q_x are
signs, the forward is computed in bytes on CPUs that are faster in them (:mod:`surge_mm.ops.sign_convolution`).

Non-finite values. A norm that is not finite makes lam 0. The terms of the branch are then replaced by 0,
although 0 times infinity is NaN, and the event is counted; the same holds where only the gradient of W_a is not
finite. A gradient g that is itself not finite stays visible in dL/dx and dL/dW_b.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor

from surge_mm.ops.binarizers.activation import SignForm
from surge_mm.ops.binarizers.elastic import Elastic
from surge_mm.ops.binarizers.weight import WeightBinarizer
from surge_mm.ops.chunking import is_transforming
from surge_mm.ops.dual_path_spec import DualPathSpec
from surge_mm.ops.gradient_scale import add_scaled, lambda_of, norm, scaled
from surge_mm.ops.once_differentiable import once_differentiable
from surge_mm.ops.registered import check_shape
from surge_mm.ops.sign_convolution import can_use_bytes, convolve_signs
from surge_mm.ops.statistics import record_pass
from surge_mm.ops.surrogate import multiply_by_derivative, shift_gradient, shifted_input


class Needs(NamedTuple):
    """Which differentiable arguments of :class:`DualPath` need a gradient.

    Attributes:
        x (bool): Input.
        w_b (bool): Latent weight.
        bias (bool): Bias.
        w_a (bool): Auxiliary weight.
        shift (bool): Learned shift of the activation binarizer.
        gain (bool): Learned gain of the weight binarizer.
        alpha (bool): Learned scale of the activation binarizer.
    """

    x: bool
    w_b: bool
    bias: bool
    w_a: bool
    shift: bool
    gain: bool
    alpha: bool


class Saved(NamedTuple):
    """What the backward pass of :class:`DualPath` reads of its arguments; what the layer does not have is None.

    Attributes:
        x (Tensor): Input.
        w_b (Tensor): Latent weight.
        w_a (Tensor): Auxiliary weight.
        shift (Tensor): Learned shift of the activation binarizer.
        gain (Tensor): Learned gain of the weight binarizer.
        alpha (Tensor): Learned scale of the activation binarizer.
        warmup (Tensor): Factor of lambda.
    """

    x: Tensor
    w_b: Tensor
    w_a: Any
    shift: Any
    gain: Any
    alpha: Any
    warmup: Any


class SurrogateGradients(NamedTuple):
    """The gradients of the binary path; each is None if it is not needed.

    Attributes:
        x (Tensor): g_b, with respect to the input.
        w_b (Tensor): dL/dW_b.
        shift (Tensor): That of the learned shift.
        gain (Tensor): That of the learned gain.
        alpha (Tensor): That of the learned scale.
        clipped (Tensor): Share of the activations whose surrogate derivative is 0, of a pass that observes.
    """

    x: Any
    w_b: Any
    shift: Any
    gain: Any
    alpha: Any
    clipped: Any


class DualPath(torch.autograd.Function):
    """One binary convolution or linear layer with DPGC and AGS; the module has the formulas.

    ``DualPath.apply(x, w_b, bias, w_a, shift, gain, alpha, warmup, statistics, spec)``:

    - ``w_a`` is None for a plain binary layer;
    - ``shift`` (``(C_in, 1, 1)`` or ``(C_in,)``), ``gain`` (``(C_out, 1, ...)``) and ``alpha`` (0-dimensional) are
      learned parameters of some binarizers, or None: ``f_b = gain Q_W(W_b) * Q_x(x + shift; alpha)``;
    - ``warmup`` is a factor of lambda, 0-dimensional, and ``statistics`` a vector of the fields of
      :class:`~surge_mm.ops.statistics.Statistics`, updated by each backward pass with a branch, or None. Both may be
      None without a branch.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        w_b: Tensor,
        bias: Tensor | None,
        w_a: Tensor | None,
        shift: Tensor | None,
        gain: Tensor | None,
        alpha: Tensor | None,
        warmup: Tensor | None,
        statistics: Tensor | None,
        spec: DualPathSpec,
    ) -> Tensor:
        """Return ``gain Q_W(W_b) * Q_x(x + shift) + bias``; the arguments are those of the class."""
        shifted = shifted_input(x, shift)
        out = _forward_in_bytes(spec, shifted, w_b, gain, alpha)
        if out is not None:
            return out if bias is None else out.add_(spec.map.per_filter(bias))
        q_x = spec.activation.values(shifted, alpha)
        q_w = spec.weight(w_b)
        check_shape(spec.weight, '__call__', q_w, w_b)
        q_w = q_w if gain is None else q_w * gain
        if spec.compute_dtype is not None:
            q_x, q_w = q_x.to(spec.compute_dtype), q_w.to(spec.compute_dtype)
            bias = None if bias is None else bias.to(spec.compute_dtype)
        return spec.map.forward(q_x, q_w, bias, spec.pad_value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save what :meth:`backward` needs.

        Args:
            ctx (Any): Where to save it.
            inputs (tuple[Any, ...]): The arguments of :meth:`forward`.
            output (Tensor): Its result.
        """
        x, w_b, bias, w_a, shift, gain, alpha, warmup, statistics, spec = inputs
        ctx.save_for_backward(x, w_b, w_a, shift, gain, alpha, warmup)
        ctx.statistics, ctx.spec = statistics, spec
        ctx.bias_dtype = None if bias is None else bias.dtype

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, tensors: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
        """Return the gradients of the arguments of :meth:`forward`.

        Args:
            ctx (Any): What forward saved.
            g (Tensor): dL/d(output).
            tensors (tuple[Tensor, ...]): The saved tensors.
        """
        spec, saved, needs = ctx.spec, Saved(*tensors), Needs(*ctx.needs_input_grad[:7])
        has_branch = spec.scale is not None and not spec.scale.is_zero and (needs.x or needs.w_a)
        binary = _surrogate_gradients(spec, g, saved, needs, has_branch)
        if has_branch:
            grad_x, grad_w_a = _add_branch(spec, g, saved, needs.w_a, binary, ctx.statistics)
        else:
            grad_x, grad_w_a = binary.x, torch.zeros_like(saved.w_a) if needs.w_a else None
        grad_bias = spec.map.bias_gradient(g).to(ctx.bias_dtype) if needs.bias else None
        learned = (binary.shift, binary.gain, binary.alpha)
        return (
            grad_x if needs.x else None,
            binary.w_b,
            grad_bias,
            grad_w_a,
            *learned,
            None,
            None,
            None,
        )


# apply() binds its arguments to the signature of forward, and computes it in each call unless it is stored
DualPath.forward.__signature__ = inspect.signature(DualPath.forward)  # type: ignore[attr-defined]


class EagerDualPath(DualPath):
    """:class:`DualPath` with an error for forward-mode differentiation; ``torch.compile`` accepts no ``jvp``."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> None:
        """Raise an error: a surrogate gradient is defined for the backward pass."""
        raise NotImplementedError(
            'a binary layer has a surrogate gradient for the backward pass only: torch.func.jvp, jacfwd, hessian and '
            'torch.autograd.forward_ad are not supported. Use torch.func.grad, vjp or jacrev'
        )


def _forward_in_bytes(
    spec: DualPathSpec, x: Tensor, w_b: Tensor, gain: Tensor | None, alpha: Tensor | None
) -> Tensor | None:
    """Return ``gain Q_W(W_b) * Q_x(x)`` by :func:`.convolve_signs`; None where that cannot compute it."""
    if not can_use_bytes(spec, x, w_b):
        return None
    two_valued = type(spec.weight).__call__ is WeightBinarizer.__call__
    if not two_valued or spec.activation.sign_form(alpha) != SignForm():
        return None
    two = spec.weight.two_values(w_b.contiguous())  # as in evaluation: means depend on the order
    if two is None or two.offset is not None or two.z.shape != w_b.shape:
        return None
    if two.alpha.shape not in ((), (len(w_b), 1, 1, 1)):  # of a rule of your own
        return None
    return convolve_signs(spec, x, two.with_gain(gain))


def _surrogate_gradients(
    spec: DualPathSpec, g: Tensor, saved: Saved, needs: Needs, has_branch: bool
) -> SurrogateGradients:
    """Return the gradients of the binary path. With a branch, g_b is computed also where x needs no gradient."""
    x, w_b, _, shift, gain, alpha, _ = saved
    mask = (needs.x or needs.shift or needs.alpha or has_branch, needs.w_b or needs.gain)
    shifted, binary_w = shifted_input(x, shift), spec.weight(w_b)
    q_w = binary_w if gain is None else binary_w * gain
    q_x = spec.activation.values(shifted, alpha).to(g.dtype)
    g_b, grad_q = spec.map.backward(g, q_x, q_w.to(g.dtype), spec.pad_value, mask)
    del q_x, q_w
    clipped = grad_shift = grad_w_b = grad_gain = grad_alpha = None
    if g_b is not None:
        g_b = g_b.to(x.dtype)
        if needs.alpha:
            assert isinstance(spec.activation, Elastic)
            grad_alpha = spec.activation.scale_gradient(shifted, alpha, g_b)
        observes = has_branch and spec.observe
        g_b, clipped = multiply_by_derivative(spec.activation, shifted, alpha, g_b, observes)
        if needs.shift:
            grad_shift = shift_gradient(g_b, shift)
    if grad_q is not None:
        grad_q = grad_q.to(w_b.dtype)
        if needs.gain:
            grad_gain = (grad_q * binary_w).sum_to_size(gain.shape)
        if needs.w_b:
            grad_w_b = spec.weight.gradient(w_b, grad_q if gain is None else grad_q * gain)
            check_shape(spec.weight, 'gradient', grad_w_b, w_b)
    return SurrogateGradients(g_b, grad_w_b, grad_shift, grad_gain, grad_alpha, clipped)


def _add_branch(
    spec: DualPathSpec,
    g: Tensor,
    saved: Saved,
    needs_w_a: bool,
    binary: SurrogateGradients,
    statistics: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """Return dL/dx and dL/dW_a, and record the pass; computed in ``binary.x``.

    With lam of :func:`.gradient_scale.lambda_of`, times the warm-up::

        dL/dx   = g_b + lam g_a
        dL/dW_a = lam (x correlated with g), or (lam x) correlated with g if lam has several elements
    """
    scale, g_b = spec.scale, binary.x
    assert scale is not None
    dtype = spec.branch_dtype or g.dtype
    g, w_a = g.to(dtype), saved.w_a.to(dtype)
    like_x = saved.x if saved.x.dtype == dtype else torch.empty_like(saved.x, dtype=dtype)
    g_a, _ = spec.map.backward(g, like_x, w_a, 0.0, (True, False))
    assert g_a is not None
    norms = (norm(g_b, scale.sync), norm(g_a, scale.sync))
    lam = saved.warmup * lambda_of(scale, g_b, g_a, norms)
    finite = finite_w = torch.isfinite(lam).all() & torch.isfinite(norms[1])
    grad_w_a = None
    if needs_w_a:
        x, lam_w = saved.x, lam
        if lam.dim() > 0:
            x, lam_w = (lam * x).to(x.dtype), torch.ones_like(norms[1])
        _, grad_w_a = spec.map.backward(g, x.to(dtype), w_a, 0.0, (False, True))
        assert grad_w_a is not None
        grad_w_a = grad_w_a.to(saved.w_a.dtype)
        finite_w = finite & torch.isfinite(norm(grad_w_a))  # an infinite x may show in neither norm
        grad_w_a = scaled(torch.where(finite_w, lam_w, 0), grad_w_a)
    lam = torch.where(finite, lam, 0)
    if statistics is not None and not is_transforming(g):  # torch.func cannot write to a buffer
        record_pass(statistics, lam, (g_b, g_a), norms, binary.clipped, ~finite_w, spec.observe)
    grad_x = add_scaled(g_b, lam, g_a)
    if scale.preserve_norm:
        grad_x = _with_norm(norms[0], grad_x, (lam != 0).any(), scale.sync)
    return grad_x, grad_w_a


def _with_norm(length: Tensor, x: Tensor, corrected: Tensor, sync: bool) -> Tensor:
    """Return ``length x / ||x||``, computed in ``x``; ``x`` unchanged unless it is ``corrected``."""
    norm_x = norm(x, sync)
    return x.mul_(torch.where(corrected & (norm_x > 0), length / norm_x, 1))
