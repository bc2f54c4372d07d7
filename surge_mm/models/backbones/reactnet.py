"""ReActNet-A: a MobileNetV1 without depthwise convolutions, for binary weights and activations."""

from __future__ import annotations

import torch
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.models.backbones.residual_blocks import build_activation
from surge_mm.ops.shortcut import pool_shortcut
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Positive, checked


class ReActBlock(nn.Module):
    """A 3x3 and a 1x1 binary convolution, each ``conv -> norm -> + shortcut -> activation``.

    A 1x1 convolution keeps the number of channels. To double it, the block has two of them and concatenates their
    outputs. So every shortcut is the identity, after average pooling where the 3x3 convolution has stride 2.

    Args:
        in_channels (int): Number of input channels.
        channels (int): Number of output channels, a multiple of ``in_channels``.
        stride (int): Stride of the 3x3 convolution.
        conv_cfg (dict, optional): Binary convolutions. None for ``nn.Conv2d``.
        norm_cfg (dict): Normalization.
        act_cfg (dict): Activation.

    Shape: ``(N, in_channels, H, W)`` to ``(N, channels, ceil(H / stride), ceil(W / stride))``.
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
        x = self.act1(self.bn1(self.conv1(x)) + pool_shortcut(x, self.stride))
        parts = [bn(conv(x)) + x for conv, bn in zip(self.conv2, self.bn2, strict=True)]
        return self.act2(torch.cat(parts, dim=1))


@MODELS.register_module()
class ReActNetA(SurgeBackbone):
    """ReActNet-A for 224x224 images. All convolutions but the first are binary.

    Source: Liu et al., ReActNet, arXiv 2003.03488.

    Args:
        in_channels (int): Number of channels of the image. Defaults to 3.
        base_channels (int): Number of output channels of the first convolution. Defaults to 32.
        conv_cfg (dict, optional): Binary convolutions. None builds the full-precision network of the same structure.
            Defaults to ``surge_mm.SurgeConv2d`` with RSign activations and ReActNet's weights.
        norm_cfg (dict): Normalization. Defaults to ``dict(type='BN')``.
        act_cfg (dict): Activation. Defaults to ``dict(type='surge_mm.RPReLU')``.
        init_cfg (dict or list[dict], optional): MMEngine's weight initialization. None selects Kaiming for
            convolutions. Defaults to None.

    Shape: ``(N, in_channels, H, W)`` to a tuple of one ``(N, 32 base_channels, H / 32, W / 32)``.

    Raises:
        UsageError: if an argument is out of range. On loading a state dict: if it is that of another network or width.
    """

    inner = r'blocks\.\d+\.conv(1|2\.\d+)\.weight'

    factors = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
    """Numbers of channels after the stem and after each block, in units of ``base_channels``."""
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
        if init_cfg is None:
            init_cfg = {'type': 'Kaiming', 'layer': 'Conv2d'}
        super().__init__(init_cfg)
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
