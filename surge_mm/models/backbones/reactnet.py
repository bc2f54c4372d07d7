"""ReActNet-A: a MobileNetV1 without depthwise convolutions, made for binary weights and activations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.models.backbones.residual_blocks import build_activation
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Positive, checked


class ReActBlock(nn.Module):
    """A 3x3 and a 1x1 binary convolution, each ``conv -> norm -> + shortcut -> activation``.

    The 1x1 keeps the number of channels; to double it there are two of them, whose results are joined. So every
    shortcut is the identity, after a 2x2 average pool where the 3x3 has stride 2.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        conv_cfg: Cfg | None,
        norm_cfg: Cfg,
        act_cfg: Cfg,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, in_channels, 3, stride=stride, padding=1, bias=False
        )
        self.bn1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.act1 = build_activation(act_cfg, in_channels)
        count = channels // in_channels
        self.conv2 = nn.ModuleList(
            build_conv_layer(conv_cfg, in_channels, in_channels, 1, bias=False)
            for _ in range(count)
        )
        self.bn2 = nn.ModuleList(build_norm_layer(norm_cfg, in_channels)[1] for _ in range(count))
        self.act2 = build_activation(act_cfg, channels)

    def forward(self, x: Tensor) -> Tensor:
        around = x
        if self.stride != 1:
            around = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        x = self.act1(self.bn1(self.conv1(x)) + around)
        parts = [bn(conv(x)) + x for conv, bn in zip(self.conv2, self.bn2, strict=True)]
        return self.act2(torch.cat(parts, dim=1))


@MODELS.register_module()
class ReActNetA(SurgeBackbone):
    """ReActNet-A for 224x224 images; the first convolution is real, all others are binary.

    Source: Liu et al., ReActNet, arXiv 2003.03488.

    Args:
        in_channels (int): Channels of the image. Defaults to 3.
        base_channels (int): Channels of the first convolution. Defaults to 32.
        conv_cfg (dict, optional): The binary convolutions; None for the full-precision network of the same structure.
            Defaults to RSign activations and ReActNet's weights in a ``surge_mm.SurgeConv2d``.
        norm_cfg (dict): Normalisation. Defaults to ``dict(type='BN')``.
        act_cfg (dict): Activation. Defaults to ``dict(type='surge_mm.RPReLU')``.
        init_cfg (dict, optional): MMEngine's weight initialisation. Defaults to Kaiming for convolutions.

    Shape: ``(N, in_channels, H, W)`` to a tuple of one ``(N, 32 base_channels, H / 32, W / 32)``.

    Raises:
        ValueError: while loading, the checkpoint of another network or width.
    """

    inner_convs = r'blocks\.\d+\.conv(1|2\.\d+)\.weight'

    factors = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
    """Channels after the stem and after each block, in units of ``base_channels``."""
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

    @checked
    def __init__(
        self,
        in_channels: Positive = 3,
        base_channels: Positive = 32,
        conv_cfg: Cfg | None = {  # noqa: B006
            'type': 'surge_mm.SurgeConv2d',
            'activation': {'type': 'RSign'},
            'weight': {'type': 'ReAct'},
        },
        norm_cfg: Cfg = {'type': 'BN'},  # noqa: B006
        act_cfg: Cfg = {'type': 'surge_mm.RPReLU'},  # noqa: B006
        init_cfg: Cfg | list[Cfg] | None = None,
    ) -> None:
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d'})
        self.conv1 = nn.Conv2d(in_channels, base_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, base_channels)[1]
        widths = [factor * base_channels for factor in self.factors]
        self.blocks = nn.Sequential(
            *(
                ReActBlock(before, after, stride, conv_cfg, norm_cfg, act_cfg)
                for before, after, stride in zip(widths, widths[1:], self.strides, strict=False)
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.blocks(self.bn1(self.conv1(x))),)
