"""The forward pass of a trained binary layer, in sums of signs."""

from __future__ import annotations

import torch
from torch import Tensor

from surge_mm.ops.activation_binarizers import is_exporting, sign
from surge_mm.ops.dual_path import DualPathSpec, shifted_input


def infer(
    x: Tensor,
    w_b: Tensor,
    bias: Tensor | None,
    shift: Tensor | None,
    gain: Tensor | None,
    spec: DualPathSpec,
) -> Tensor:
    """Return the output of a trained layer, without a gradient.

    The sums are those of signs with signs: whole numbers, which float32 holds exactly in any order. They are rounded,
    since some algorithms of a convolution (Winograd, FFT) are not exact, and scaled afterwards. So the output does not
    depend on threads, memory format or backend, and a packed engine gives it to the bit. It equals that of
    :class:`~surge_mm.ops.dual_path.DualPath`, whose sums are of scaled weights, up to rounding::

        f_b = (gain alpha) (sign(z) * Q_x) + (gain offset) (1 * Q_x) + bias          Q_W = alpha sign(z) + offset

    Args:
        x (Tensor): Input, ``(N, C_in, H, W)`` or ``(..., C_in)``.
        w_b (Tensor): Latent weight, ``(C_out, ...)``.
        bias (Tensor, optional): ``(C_out,)``.
        shift (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        gain (Tensor, optional): As for :class:`~surge_mm.ops.dual_path.DualPath`.
        spec (DualPathSpec): The rest of the layer.
    """
    q_x = spec.activation(shifted_input(x, shift))
    two = spec.weight.two_values(w_b.contiguous())  # means depend on the order in memory
    if two is None:
        q_w = spec.weight(w_b)
        return spec.map.forward(q_x, q_w if gain is None else q_w * gain, bias, spec.pad_value)
    two = two.with_gain(gain)
    signs = sign(two.z)
    if not is_exporting():
        signs = torch.empty_like(w_b).copy_(signs)  # in the memory format of the weights
    out = spec.map.forward(q_x, signs, None, spec.pad_value).round_()
    out *= spec.map.per_filter(two.alpha)
    if two.offset is not None:
        windows = spec.map.window_sums(q_x, two.z, spec.pad_value).round_()
        out += windows * spec.map.per_filter(two.offset)
    return out if bias is None else out.add_(spec.map.per_filter(bias))
