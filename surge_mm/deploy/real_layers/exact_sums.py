"""Convolution of bytes with exact sums: by oneDNN where it is exact, else in float64.

oneDNN's operators are those that PyTorch's own compiler uses for int8. They are not documented, so they are looked up
at run time and tried on the largest sums. Both ways return the float32 next to the exact sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.real_layers.quantization import BYTE, WEIGHT
from surge_mm.ops import Convolution
from surge_mm.utils.errors import describe_error
from surge_mm.utils.logging import log

Sums = Callable[[Tensor], Tensor]


def onednn_sums(weight: Tensor, convolution: Convolution, shape: tuple[int, ...]) -> Sums:
    """Return the convolution of bytes by oneDNN, for inputs of one shape.

    oneDNN would reorder the weight at each call with another shape, which takes longer than the convolution.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, kH, kW)``, int8.
        convolution (Convolution): Stride, dilation and groups. Its padding is not used.
        shape (tuple[int, ...]): ``(N, C_in, H, W)`` with the padding.
    """
    onednn = torch.ops.onednn
    ones, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int32)
    stride, dilation = list(convolution.stride), list(convolution.dilation)
    columns = None
    if convolution.idles(shape[3], weight.shape[3]):
        stride[1], columns = 1, 1
    geometry = (stride, [0, 0], dilation, convolution.groups)
    prepacked = onednn.qconv_prepack(weight, ones, 1.0, 0, *geometry, list(shape))
    convolve = onednn.qconv2d_pointwise.default
    numbers = (1.0, 0, prepacked, ones, zeros, None, *geometry, 1.0, 0, torch.float32)
    return lambda q: convolve(q, *numbers, 'none', [], None)[..., :columns]


def float64_sums(weight: Tensor, convolution: Convolution) -> Sums:
    """Return the convolution of bytes in float64, where all sums are exact.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, kH, kW)``, int8.
        convolution (Convolution): Stride, dilation and groups. Its padding is not used.
    """
    w = weight.double()
    c = convolution
    return lambda q: F.conv2d(q.double(), w, None, c.stride, 0, c.dilation, c.groups).float()


@cache
def onednn_is_exact() -> bool:
    """Return whether oneDNN's operators are there and give exact sums on this CPU. If not, it is logged once."""
    try:
        q = torch.full((1, 64, 4, 4), BYTE, dtype=torch.uint8)
        q = q.contiguous(memory_format=torch.channels_last)
        weight = torch.full((16, 64, 3, 3), WEIGHT, dtype=torch.int8)
        weight[::2] = -WEIGHT
        sums = onednn_sums(weight, Convolution(), tuple(q.shape))(q)
        found = (
            ''
            if torch.equal(sums, float64_sums(weight, Convolution())(q))
            else 'its sums are not exact'
        )
    except Exception as error:  # another version of PyTorch, or a build without oneDNN
        found = describe_error(error)
    if found:
        log(
            'int8 layers compute in float64, with the same outputs but slower than in float32: the operators of oneDNN '
            f'cannot be used ({found})'
        )
    return not found
