"""The forward pass of a trained binary layer, in sums of signs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from surge_mm.ops.binarizers.activation import ActivationBinarizer
from surge_mm.ops.binarizers.weight import TwoValues, WeightBinarizer
from surge_mm.ops.dual_path_spec import DualPathSpec
from surge_mm.ops.sign_convolution import can_use_bytes, convolve_signs
from surge_mm.ops.signs import is_exporting, sign
from surge_mm.ops.surrogate import shifted_input


class LayerInSigns(NamedTuple):
    """A trained layer in signs ``s = sign(x + shift)``: ``alpha (sign(z) * s) + offset (1 * s) + bias``.

    Attributes:
        weight (TwoValues): z, alpha and offset. Learned gains and scales are part of alpha and offset.
        shift (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`; None for 0.
        bias (Tensor, optional): ``(C_out,)``; None for 0.
    """

    weight: TwoValues
    shift: Tensor | None
    bias: Tensor | None


def in_signs(
    w_b: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    gain: Tensor | None,
    alpha: Tensor | None,
    activation: ActivationBinarizer,
    weight: WeightBinarizer,
) -> LayerInSigns | None:
    """Return a trained layer in signs; None if its weights are not of two values, or its activations no signs.

    With ``Q_x(x) = factor (sign(x - threshold) + level)`` and ``Q_W = alpha sign(z) + offset``, the factor multiplies
    alpha and offset, the threshold is subtracted from the shift, and ``level sum(Q_W)`` is added to the bias.

    Args:
        w_b (Tensor): Latent weight, ``(C_out, ...)``.
        bias (Tensor, optional): ``(C_out,)``.
        shift (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        gain (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        alpha (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        activation (ActivationBinarizer): Q_x.
        weight (WeightBinarizer): Q_W.
    """
    form = activation.sign_form(alpha)
    two = weight.two_values(w_b.contiguous())  # means depend on the order in memory
    if form is None or two is None:
        return None
    two = two.with_gain(gain).with_gain(form.factor)
    if form.threshold is not None:
        shift = -form.threshold.expand(w_b.shape[1]) if shift is None else shift - form.threshold
    if form.level:
        total = two.alpha.reshape(-1) * sign(two.z).sum(1)  # whole numbers, which are exact
        if two.offset is not None:
            total = total + two.offset.reshape(-1) * w_b.shape[1]
        bias = total if bias is None else total + bias
    return LayerInSigns(two, shift, bias)


def infer(
    x: Tensor,
    w_b: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    gain: Tensor | None,
    alpha: Tensor | None,
    spec: DualPathSpec,
) -> Tensor:
    """Return the output of a trained layer, without a gradient.

    The sums are those of signs with signs: whole numbers, which float32 holds exactly in any order. They are rounded,
    since some algorithms of a convolution (Winograd, FFT) are not exact, and scaled afterwards. So the output does not
    depend on threads, memory format or backend, and a packed engine gives it to the bit. It equals that of
    :class:`~surge_mm.ops.dual_path.DualPath` up to rounding, since the sums of that are of scaled weights; to the bit
    where it computes in bytes. :class:`LayerInSigns` has the formula.

    Args:
        x (Tensor): Input, ``(N, C_in, H, W)`` or ``(..., C_in)``.
        w_b (Tensor): Latent weight, ``(C_out, ...)``.
        bias (Tensor, optional): ``(C_out,)``.
        shift (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        gain (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        alpha (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        spec (DualPathSpec): The rest of the layer.
    """
    layer = in_signs(w_b, bias, shift, gain, alpha, spec.activation, spec.weight)
    if layer is None:
        q_x, q_w = spec.activation.values(shifted_input(x, shift), alpha), spec.weight(w_b)
        return spec.map.forward(q_x, q_w if gain is None else q_w * gain, bias, spec.pad_value)
    two, shift, bias = layer
    shifted = shifted_input(x, shift)
    if can_use_bytes(spec, shifted, w_b):
        out = convolve_signs(spec, shifted, two)
    else:
        signs = sign(two.z)
        if not is_exporting():
            signs = torch.empty_like(w_b).copy_(signs)  # in the memory format of the weights
        out = spec.map.forward(sign(shifted), signs, None, spec.pad_value).round_()
        out *= spec.map.per_filter(two.alpha)
    if two.offset is not None:
        windows = spec.map.window_sums(sign(shifted), two.z, spec.pad_value).round_()
        out += windows * spec.map.per_filter(two.offset)
    return out if bias is None else out.add_(spec.map.per_filter(bias))
