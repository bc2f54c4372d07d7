"""What a trained binary layer consists of: two values a filter, and a window that passes over the input."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from surge_mm.deploy.cpu.geometry import Window
from surge_mm.layers import BinaryLayer, SurgeConv2d, SurgeLinear
from surge_mm.ops import ActivationBinarizer, sign


def is_sign(activation: ActivationBinarizer) -> bool:
    """Whether it takes the sign and nothing else."""
    return type(activation).__call__ is ActivationBinarizer.__call__


def hindrance(layer: BinaryLayer) -> str:
    """Why a binary layer cannot be packed; empty where it can."""
    if layer.weight_binarizer.two_values(layer.weight.detach()) is None:
        return f'its weights are {layer.weight_binarizer}, which are not of two values'
    if not is_sign(layer.activation):
        return f'its activation {layer.activation} is not the sign'
    if layer.weight.dtype != torch.float32:
        return f'its weights are {layer.weight.dtype}, and the engine computes in float32'
    return ''


class Parts(NamedTuple):
    """What a layer's weights are made of: ``Q_W = scale * weight + offset``, with a learned gain in both.

    Attributes:
        weight: Signs, int8; or real weights where they are not of two values, with scale and offset None.
        scale: A number a filter, or one for all.
        offset: A number a filter, or None.
    """

    weight: Tensor
    scale: Tensor | None
    offset: Tensor | None


@torch.no_grad()
def parts_of(layer: BinaryLayer) -> Parts:
    """The weights of a trained layer, as :func:`surge_mm.ops.infer` takes them."""
    w, gain = layer.weight.contiguous(), layer.weight_gain
    two = layer.weight_binarizer.two_values(w)
    if two is None:
        real = layer.weight_binarizer(w)
        return Parts(real if gain is None else real * gain, None, None)
    scale, offset = two.alpha, two.offset
    if gain is not None:
        scale, offset = scale * gain, None if offset is None else offset * gain
    return Parts(sign(two.z).to(torch.int8), scale, offset)


def window_of(layer: BinaryLayer) -> tuple[Window, tuple[int, int, int, int]]:
    """What a layer looks through, and what it pads with values of its input; a linear layer looks at one pixel."""
    nothing = (0, 0, 0, 0)
    if isinstance(layer, SurgeLinear):
        return Window((1, 1), (1, 1), nothing, (1, 1), 1, layer.in_features), nothing
    assert isinstance(layer, SurgeConv2d)
    left, right, top, bottom = layer._reversed_padding_repeated_twice
    padding, around = (left, right, top, bottom), nothing
    if layer.padding_mode != 'zeros':
        padding, around = around, padding
    kernel, stride, dilation = (
        (pair[0], pair[1]) for pair in (layer.kernel_size, layer.stride, layer.dilation)
    )
    return Window(kernel, stride, padding, dilation, layer.groups, layer.in_channels), around
