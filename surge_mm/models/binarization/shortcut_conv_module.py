"""MMCV's ConvModule with a shortcut, apart from :mod:`.shortcuts`, which needs PyTorch alone."""

from __future__ import annotations

import mmcv.cnn
from torch import Tensor

from surge_mm.ops.shortcut import pool_shortcut


class ShortcutConvModule(mmcv.cnn.ConvModule):
    """MMCV's ConvModule with a shortcut round its convolution and norm, as in :mod:`.shortcuts`.

    Shape: ``(N, C, H, W)`` to ``(N, C, ceil(H / stride), ceil(W / stride))``.
    """

    fused = False
    """Whether the packed convolution itself adds the shortcut."""

    def forward(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """Return the output of the module.

        Args:
            x (Tensor): ``(N, C, H, W)``.
            activate (bool): Whether to apply the activation. Defaults to True.
            norm (bool): Whether to apply the norm. Defaults to True.
        """
        if self.fused:
            return super().forward(x, activate, norm)
        out = super().forward(x, False, norm) + pool_shortcut(x, self.stride[0])
        return self.activate(out) if activate and self.with_activation else out
