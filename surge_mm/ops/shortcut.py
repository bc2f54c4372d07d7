"""The shortcut around a binary convolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pool_shortcut(x: Tensor, stride: int) -> Tensor:
    """Reduce a shortcut to the resolution of a convolution with the given stride, by average pooling.

    Args:
        x (Tensor): Input of the convolution, ``(N, C, H, W)``.
        stride (int): Stride of the convolution.

    Returns:
        Tensor: ``(N, C, ceil(H / stride), ceil(W / stride))``; ``x`` itself for stride 1.
    """
    if stride == 1:
        return x
    return F.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)
