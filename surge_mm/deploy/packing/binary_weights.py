"""Weights and geometry of a trained binary layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from surge_mm.layers import BinaryLayer, SurgeConv2d
from surge_mm.layers.memory_format import has_hooks
from surge_mm.ops import Convolution, in_signs, sign

Padding = tuple[int, int, int, int]


def unsupported_reason(layer: BinaryLayer) -> str:
    """Return the reason why a binary layer cannot be packed, or an empty string if it can be."""
    if 'weight' not in layer._parameters or has_hooks(layer, after=False):
        return 'a forward pre-hook or a parametrization, such as that of spectral_norm, may compute its weight'
    if has_hooks(layer, before=False):
        return 'it has a forward hook, which a packed layer would not call'
    weight = layer.weight.detach()
    if layer.weight_binarizer.two_values(weight) is None:
        return f'its weights are {layer.weight_binarizer}, which are not of two values'
    if layer.activation.sign_form(layer.activation_scale) is None:
        return f'its activation {layer.activation} is not the sign'
    if weight.dtype != torch.float32:
        return f'its weights are {weight.dtype}, and the engine computes in float32'
    return ''


class LayerParts(NamedTuple):
    """A layer in signs ``s = sign(x + shift)``: ``scale (weight * s) + offset (1 * s) + bias``.

    Learned gains and scales are included.

    Attributes:
        weight (Tensor): Signs, int8, of the shape of the weight; real weights if the filters have more than two values.
        scale (Tensor, optional): One number per filter or one for all. None if the weights are real.
        offset (Tensor, optional): One number per filter. None for 0.
        shift (Tensor, optional): One number per input channel, as ``activation_shift``. None for 0.
        bias (Tensor, optional): One number per filter. None for 0.
    """

    weight: Tensor
    scale: Tensor | None
    offset: Tensor | None
    shift: Tensor | None
    bias: Tensor | None


@torch.no_grad()
def parts_of(layer: BinaryLayer) -> LayerParts:
    """Return the numbers of a trained layer whose activations are signs."""
    w, gain = layer.weight.contiguous(), layer.weight_gain
    numbers = (layer.bias, layer.activation_shift, gain, layer.activation_scale)
    folded = in_signs(w, *numbers, layer.activation, layer.weight_binarizer)
    if folded is None:
        real = layer.weight_binarizer(w)
        real = real if gain is None else real * gain
        return LayerParts(real, None, None, layer.activation_shift, layer.bias)
    two, shift, bias = folded
    return LayerParts(sign(two.z).to(torch.int8), two.alpha, two.offset, shift, bias)


def geometry_of(layer: BinaryLayer) -> tuple[Convolution, Padding]:
    """Return the geometry of a layer, and the padding that it takes from values of its input.

    A linear layer is a convolution of one pixel.

    Returns:
        tuple[Convolution, tuple[int, int, int, int]]: The convolution, whose padding is that of the binarized input;
        and the padding (left, right, top, bottom) by a ``padding_mode`` other than 'zeros'.
    """
    nothing = (0, 0, 0, 0)
    if not isinstance(layer, SurgeConv2d):
        return Convolution(), nothing
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    around = nothing if layer.padding_mode == 'zeros' else (left, right, top, bottom)
    return layer.convolution, around
