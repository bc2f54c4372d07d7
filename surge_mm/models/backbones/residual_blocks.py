"""The blocks of binary ResNets (Bi-Real Net, arXiv 1808.00278): their convolutions, shortcuts and activations."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import Tensor, nn

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg


def build_activation(act_cfg: Cfg, channels: int) -> nn.Module:
    """Build an activation, telling those with parameters per channel how many channels there are."""
    cfg = dict(act_cfg)
    name = cfg['type'].removeprefix('surge_mm.')
    if name in MODELS.module_dict:
        cfg['type'] = f'surge_mm.{name}'
    if name == 'PReLU':
        cfg.setdefault('num_parameters', channels)
    elif name == 'RPReLU':
        cfg.setdefault('num_channels', channels)
    return MODELS.build(cfg)


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of a network have in common.

    Args:
        conv_cfg: The binary convolutions; None for real ones.
        norm_cfg: Normalisation.
        act_cfg: Activation.
        shortcut: What a shortcut does where the shape changes: ``'conv'`` or ``'pad'``; see :class:`Shortcut`.
        around: Round what shortcuts go: ``'conv'``, every binary convolution, or ``'block'``, as in an ordinary ResNet.

    Raises:
        ValueError: another ``shortcut`` or ``around``.
    """

    conv_cfg: Cfg | None = None
    norm_cfg: Cfg = field(default_factory=lambda: {'type': 'BN'})
    act_cfg: Cfg = field(default_factory=lambda: {'type': 'PReLU'})
    shortcut: str = 'conv'
    around: str = 'conv'

    def __post_init__(self) -> None:
        if self.shortcut not in ('conv', 'pad'):
            raise ValueError(f"shortcut={self.shortcut!r} must be 'conv' or 'pad'")
        if self.around not in ('conv', 'block'):
            raise ValueError(f"shortcut_around={self.around!r} must be 'conv' or 'block'")


class Shortcut(nn.Sequential):
    """Identity where the shape stays; else, for stride 2, a 2x2 average pool, and more channels as ``style`` says.

    ``'conv'`` is a full-precision 1x1 convolution and norm: children ``0`` and ``1``, as in public ResNet checkpoints;
    the pool has no key. ``'pad'`` has no parameters: channels of zeros on both sides.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, style: BlockStyle) -> None:
        layers: list[nn.Module] = []
        changes = stride != 1 or in_channels != channels
        if changes and style.shortcut == 'conv':
            layers = [
                nn.Conv2d(in_channels, channels, 1, bias=False),
                build_norm_layer(style.norm_cfg, channels)[1],
            ]
        super().__init__(*layers)
        self.stride = stride
        self.missing = channels - in_channels if style.shortcut == 'pad' else 0

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        if self.missing:
            x = F.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return super().forward(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with its own shortcut: ``x -> conv -> norm -> + shortcut -> activation``.

    With ``around='block'`` there is one shortcut, round both.
    """

    expansion = 1
    convolutions = ('conv1', 'conv2')

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dilation: int,
        style: BlockStyle,
    ) -> None:
        super().__init__()
        options: Cfg = {'padding': dilation, 'dilation': dilation, 'bias': False}
        self.conv1 = build_conv_layer(
            style.conv_cfg, in_channels, width, 3, stride=stride, **options
        )
        self.bn1 = build_norm_layer(style.norm_cfg, width)[1]
        self.act1 = build_activation(style.act_cfg, width)
        self.conv2 = build_conv_layer(style.conv_cfg, width, width, 3, **options)
        self.bn2 = build_norm_layer(style.norm_cfg, width)[1]
        self.act2 = build_activation(style.act_cfg, width)
        self.downsample = Shortcut(in_channels, width, stride, style)
        self.around = style.around

    def forward(self, x: Tensor) -> Tensor:
        out, around = self.bn1(self.conv1(x)), self.downsample(x)
        if self.around == 'block':
            return self.act2(self.bn2(self.conv2(self.act1(out))) + around)
        x = self.act1(out + around)
        return self.act2(self.bn2(self.conv2(x)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3 of ``conv_cfg`` with its own shortcut, 1x1; a shortcut round all. The 1x1 are real."""

    expansion = 4
    convolutions = ('conv1', 'conv2', 'conv3')

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        dilation: int,
        style: BlockStyle,
    ) -> None:
        super().__init__()
        channels = width * self.expansion
        options: Cfg = {'padding': dilation, 'dilation': dilation, 'bias': False}
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = build_norm_layer(style.norm_cfg, width)[1]
        self.act1 = build_activation(style.act_cfg, width)
        self.conv2 = build_conv_layer(style.conv_cfg, width, width, 3, stride=stride, **options)
        self.bn2 = build_norm_layer(style.norm_cfg, width)[1]
        self.act2 = build_activation(style.act_cfg, width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = build_norm_layer(style.norm_cfg, channels)[1]
        self.act3 = build_activation(style.act_cfg, channels)
        self.downsample = Shortcut(in_channels, channels, stride, style)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        out = self.act1(self.bn1(self.conv1(x)))
        around = out
        if self.stride != 1:
            around = F.avg_pool2d(out, self.stride, ceil_mode=True, count_include_pad=False)
        out = self.act2(self.bn2(self.conv2(out)) + around)
        return self.act3(self.bn3(self.conv3(out)) + self.downsample(x))
