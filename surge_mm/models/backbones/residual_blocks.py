"""Residual blocks of binary ResNets (Bi-Real Net, arXiv 1808.00278): convolutions, shortcuts and activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from surge_mm.ops.shortcut import pool_shortcut
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg
from surge_mm.utils.class_names import class_name

CHANNEL_ARGUMENTS = {'PReLU': 'num_parameters', 'RPReLU': 'num_channels'}
"""Argument for the number of channels of each activation that has parameters per channel."""


def build_activation(act_cfg: Cfg, channels: int) -> nn.Module:
    """Build an activation, with one parameter for each channel where it has parameters.

    Args:
        act_cfg (dict): Type and arguments of the activation. For a type of this package, such as ``'RPReLU'`` and
            ``'Hardtanh'``, the scope may be omitted.
        channels (int): Number of channels of the input.

    Returns:
        nn.Module: The activation.
    """
    cfg = dict(act_cfg)
    name = class_name(cfg['type'])
    if cfg['type'] in MODELS.module_dict:
        cfg['type'] = f'surge_mm.{name}'
    if name in CHANNEL_ARGUMENTS:
        cfg.setdefault(CHANNEL_ARGUMENTS[name], channels)
    return MODELS.build(cfg)


@dataclass(frozen=True)
class BlockStyle:
    """Settings that all blocks of a network share.

    Attributes:
        conv_cfg (dict, optional): Binary convolutions. None for ``nn.Conv2d``.
        norm_cfg (dict): Normalization.
        act_cfg (dict): Activation.
        shortcut (str): How a shortcut changes the number of channels: ``'conv'`` or ``'pad'``; see :class:`Shortcut`.
        around (str): What a shortcut skips: ``'conv'`` for each binary convolution, ``'block'`` for a whole basic
            block, as in a standard ResNet.
    """

    conv_cfg: Cfg | None
    norm_cfg: Cfg
    act_cfg: Cfg
    shortcut: Literal['conv', 'pad']
    around: Literal['conv', 'block']

    def conv3x3(
        self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1
    ) -> nn.Module:
        """Build a binary 3x3 convolution whose output has ceil(1 / stride) of the input's resolution.

        Args:
            in_channels (int): Number of input channels.
            channels (int): Number of output channels.
            stride (int): Stride. Defaults to 1.
            dilation (int): Dilation, and padding on each side. Defaults to 1.

        Returns:
            nn.Module: The convolution, without bias.
        """
        return build_conv_layer(
            self.conv_cfg,
            in_channels,
            channels,
            3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            bias=False,
        )

    def norm(self, channels: int) -> nn.Module:
        """Build the normalization of ``channels`` channels."""
        return build_norm_layer(self.norm_cfg, channels)[1]

    def activation(self, channels: int) -> nn.Module:
        """Build the activation of ``channels`` channels."""
        return build_activation(self.act_cfg, channels)


class Shortcut(nn.Sequential):
    """Identity, or a change of resolution and channels.

    The resolution is changed by 2x2 average pooling, which has no key in the state dict. The number of channels is
    changed by a full-precision 1x1 convolution and a norm (``style.shortcut='conv'``; children ``0`` and ``1``, as in
    public ResNet checkpoints), or by channels of zeros on both sides (``'pad'``).

    Args:
        in_channels (int): Number of input channels.
        channels (int): Number of output channels.
        stride (int): Factor by which height and width are divided.
        style (BlockStyle): Settings of the network.

    Shape: ``(N, in_channels, H, W)`` to ``(N, channels, ceil(H / stride), ceil(W / stride))``.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, style: BlockStyle) -> None:
        layers: list[nn.Module] = []
        changes = stride != 1 or in_channels != channels
        if changes and style.shortcut == 'conv':
            layers = [nn.Conv2d(in_channels, channels, 1, bias=False), style.norm(channels)]
        super().__init__(*layers)
        self.stride = stride
        self.missing = channels - in_channels if style.shortcut == 'pad' else 0

    def forward(self, x: Tensor) -> Tensor:
        x = pool_shortcut(x, self.stride)
        if self.missing != 0:
            x = F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return super().forward(x)


class BasicBlock(nn.Module):
    """Two binary 3x3 convolutions, each with a shortcut: ``x -> conv -> norm -> + shortcut -> activation``.

    With ``style.around='block'``, one shortcut skips both.

    Args:
        in_channels (int): Number of input channels.
        width (int): Number of output channels.
        stride (int): Stride of the first convolution.
        dilation (int): Dilation of both convolutions.
        style (BlockStyle): Settings of the network.

    Shape: ``(N, in_channels, H, W)`` to ``(N, width, ceil(H / stride), ceil(W / stride))``.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dilation: int, style: BlockStyle
    ) -> None:
        super().__init__()
        self.conv1 = style.conv3x3(in_channels, width, stride, dilation)
        self.bn1, self.act1 = style.norm(width), style.activation(width)
        self.conv2 = style.conv3x3(width, width, dilation=dilation)
        self.bn2, self.act2 = style.norm(width), style.activation(width)
        self.downsample = Shortcut(in_channels, width, stride, style)
        self.around = style.around

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x))
        shortcut = self.downsample(x)
        if self.around == 'block':
            return self.act2(self.bn2(self.conv2(self.act1(out))) + shortcut)
        out = self.act1(out + shortcut)
        return self.act2(self.bn2(self.conv2(out)) + out)


class Bottleneck(nn.Module):
    """A full-precision 1x1 convolution, a binary 3x3 one with a shortcut, and a 1x1 one; a shortcut skips all three.

    Args:
        in_channels (int): Number of input channels.
        width (int): Number of channels of the 3x3 convolution; the output has four times as many.
        stride (int): Stride of the 3x3 convolution.
        dilation (int): Dilation of the 3x3 convolution.
        style (BlockStyle): Settings of the network. ``around`` is not used.

    Shape: ``(N, in_channels, H, W)`` to ``(N, 4 width, ceil(H / stride), ceil(W / stride))``.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, dilation: int, style: BlockStyle
    ) -> None:
        super().__init__()
        channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1, self.act1 = style.norm(width), style.activation(width)
        self.conv2 = style.conv3x3(width, width, stride, dilation)
        self.bn2, self.act2 = style.norm(width), style.activation(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3, self.act3 = style.norm(channels), style.activation(channels)
        self.downsample = Shortcut(in_channels, channels, stride, style)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)) + pool_shortcut(out, self.stride))
        return self.act3(self.bn3(self.conv3(out)) + self.downsample(x))
