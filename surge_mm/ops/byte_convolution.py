"""Convolution of bytes by oneDNN, with exact sums.

Its operators are those that PyTorch's own compiler uses for int8. They are not documented, so they are looked up at run
time and tried on the largest sums.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.ops.linear_maps import Convolution
from surge_mm.utils.errors import describe_error

BYTE, WEIGHT = 255, 63
"""The largest byte, and the largest weight whose sums are exact on all CPUs: of two products, 16 bits hold the sum."""


def byte_convolution(
    weight: Tensor,
    convolution: Convolution,
    shape: tuple[int, ...],
    zero: int = 0,
    factor: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return the function ``q -> factor (weight * (q - zero))`` for bytes q of one shape, ``*`` a convolution.

    Its result is float32; the exact sum is rounded to it, and then the product.

    oneDNN would reorder the weight at each call with another shape, which takes longer than the convolution.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, kH, kW)``, int8, of at most ``WEIGHT``.
        convolution (Convolution): Stride, dilation and groups. Its padding is not used.
        shape (tuple[int, ...]): Shape of q, ``(N, C_in, H, W)``, with the padding.
        zero (int): The byte that stands for 0. Defaults to 0.
        factor (Tensor, optional): ``(C_out,)``, float32. Defaults to None: 1.
    """
    onednn = torch.ops.onednn
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    factor = torch.ones(len(weight)) if factor is None else factor
    stride, dilation = list(convolution.stride), list(convolution.dilation)
    columns = None
    if convolution.idles(shape[3], weight.shape[3]):
        stride[1], columns = 1, 1
    geometry = (stride, [0, 0], dilation, convolution.groups)
    prepacked = onednn.qconv_prepack(weight, factor, 1.0, zero, *geometry, list(shape))
    convolve = onednn.qconv2d_pointwise.default
    numbers = (1.0, zero, prepacked, factor, zeros, None, *geometry, 1.0, 0, torch.float32)
    return lambda q: convolve(q, *numbers, 'none', [], None)[..., :columns]


@cache
def what_fails_in_onednn() -> str:
    """Return why oneDNN's operators cannot be used on this CPU; empty where their sums are exact."""
    try:
        q = torch.full((1, 64, 4, 4), BYTE, dtype=torch.uint8)
        q = q.contiguous(memory_format=torch.channels_last)
        weight = torch.full((16, 64, 3, 3), WEIGHT, dtype=torch.int8)
        weight[::2] = -WEIGHT
        for zero in (0, 1):
            sums = byte_convolution(weight, Convolution(), tuple(q.shape), zero)(q)
            exact = F.conv2d(q.double() - zero, weight.double()).float()
            if not torch.equal(sums, exact):
                return 'its sums are not exact'
    except Exception as error:  # another version of PyTorch, or a build without oneDNN
        return describe_error(error)
    return ''
