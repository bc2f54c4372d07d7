"""Convolution of bytes with exact sums in float64, where oneDNN's (:mod:`surge_mm.ops.byte_convolution`) are not.

Both ways return the float32 next to the exact sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch.nn.functional as F
from torch import Tensor

from surge_mm.ops import Convolution
from surge_mm.ops.byte_convolution import what_fails_in_onednn
from surge_mm.utils.logging import log


def float64_sums(weight: Tensor, convolution: Convolution) -> Callable[[Tensor], Tensor]:
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
    fault = what_fails_in_onednn()
    if fault:
        log(
            'int8 layers compute in float64, with the same outputs but slower than in float32: the operators of oneDNN '
            f'cannot be used ({fault})'
        )
    return not fault
