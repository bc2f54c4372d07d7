"""Weights and geometry of a trained binary layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from surge_mm.layers import BinaryLayer, SurgeConv2d
from surge_mm.ops import ActivationBinarizer, Convolution, sign

Padding = tuple[int, int, int, int]


def is_sign(activation: ActivationBinarizer) -> bool:
    """Return whether the values of an activation binarizer are the signs of its input."""
    return type(activation).__call__ is ActivationBinarizer.__call__


def unsupported_reason(layer: BinaryLayer) -> str:
    """Return the reason why a binary layer cannot be packed, or an empty string if it can be."""
    weight = layer.effective_weight().detach()
    if layer.weight_binarizer.two_values(weight) is None:
        return f'its weights are {layer.weight_binarizer}, which are not of two values'
    if not is_sign(layer.activation):
        return f'its activation {layer.activation} is not the sign'
    if weight.dtype != torch.float32:
        return f'its weights are {weight.dtype}, and the engine computes in float32'
    return ''


class WeightParts(NamedTuple):
    """The binary weights of a layer, ``Q_W = scale * weight + offset``, a learned gain included.

    Attributes:
        weight (Tensor): Signs, int8, of the shape of the weight; real weights if the filters have more than two values.
        scale (Tensor, optional): One number per filter or one for all. None if the weights are real.
        offset (Tensor, optional): One number per filter. None for 0.
    """

    weight: Tensor
    scale: Tensor | None
    offset: Tensor | None


@torch.no_grad()
def parts_of(layer: BinaryLayer) -> WeightParts:
    """Return the binary weights of a trained layer."""
    w, gain = layer.effective_weight().contiguous(), layer.weight_gain
    two = layer.weight_binarizer.two_values(w)
    if two is None:
        real = layer.weight_binarizer(w)
        return WeightParts(real if gain is None else real * gain, None, None)
    two = two.with_gain(gain)
    return WeightParts(sign(two.z).to(torch.int8), two.alpha, two.offset)


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
