"""RPReLU, the activation function of ReActNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surge_mm.utils.argument_checks import Finite, Positive, checked


class RPReLU(nn.Module):
    """PReLU with learned shifts per channel: ``RPReLU(x) = PReLU(x + a) + c``.

    Args:
        num_channels (int): C, the size of axis 1.
        init (float): Initial slope of the negative side. Defaults to 0.25.
        inplace (bool): Has no effect: the input is never modified. mmcv's ConvModule passes it. Defaults to False.

    Shape: ``(N, C, ...) -> (N, C, ...)``.

    Source: Liu et al., ReActNet, arXiv 2003.03488.
    """

    @checked
    def __init__(self, num_channels: Positive, init: Finite = 0.25, inplace: bool = False) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(num_channels))
        self.prelu = nn.PReLU(num_channels, init)
        self.c = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return self.prelu(x + self.a.view(shape)) + self.c.view(shape)
