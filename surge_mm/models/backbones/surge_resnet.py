"""ResNet with a shortcut for every binary convolution (Bi-Real Net, arXiv 1808.00278)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.utils.checkpoint as checkpoint
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.models.backbones.residual_blocks import (
    BasicBlock,
    BlockStyle,
    Bottleneck,
    build_activation,
)
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Positive, checked


@MODELS.register_module()
class SurgeResNet(SurgeBackbone):
    """ResNet-18, -20, -34 or -50 with binary 3x3 convolutions, for MMDetection and MMPretrain.

    The stem, the shortcuts and (at depth 50) the 1x1 convolutions have full precision. The state dict has the keys of
    public ResNet checkpoints, which can therefore initialize the network: their weights become latent weights.

    Args:
        depth (int): 18, 34 or 50; 20 for CIFAR, with three stages.
        in_channels (int): Number of channels of the image. Defaults to 3.
        base_channels (int): Width of the first stage. It doubles from stage to stage. Defaults to 64.
        num_stages (int): Number of stages: 1 to 4; 1 to 3 for depth 20. Defaults to 4.
        strides (Sequence[int]): Stride of the first block of each stage. Defaults to (1, 2, 2, 2).
        dilations (Sequence[int]): Dilation of each stage. Defaults to (1, 1, 1, 1).
        out_indices (Sequence[int]): Stages whose output is returned. Defaults to (0, 1, 2, 3).
        stem (str): ``'resnet'`` (7x7 convolution and 3x3 max pooling, each with stride 2), ``'light'`` (two 3x3
            convolutions with stride 2, for small images), ``'patch'`` (one 5x5 convolution with stride 4, the fastest),
            or ``'cifar'`` (one 3x3 convolution with stride 1). Defaults to ``'resnet'``.
        style (str): ``'pytorch'``, the only supported style: the 3x3 convolution of a bottleneck has the stride.
        frozen_stages (int): What is not trained: -1 for nothing, 0 for the stem, k for the stem and the first k
            stages. Defaults to -1.
        conv_cfg (dict, optional): Binary 3x3 convolutions. None builds the full-precision network of the same
            structure. Defaults to ``dict(type='surge_mm.SurgeConv2d')``.
        norm_cfg (dict): Normalization. Defaults to ``dict(type='BN', requires_grad=True)``.
        act_cfg (dict): Activation: Hardtanh, PReLU, ``surge_mm.RPReLU``, ... Defaults to ``dict(type='PReLU')``.
        shortcut (str): How a shortcut changes the number of channels: by a 1x1 convolution (``'conv'``) or by channels
            of zeros (``'pad'``). Average pooling changes its resolution. Defaults to ``'conv'``.
        shortcut_around (str): What a shortcut skips: each binary convolution (``'conv'``) or two, as in a standard
            ResNet (``'block'``). Depth 50 has both kinds of shortcuts. Defaults to ``'conv'``.
        norm_eval (bool): Keep batch norm in evaluation mode in training. Defaults to False.
        with_cp (bool): Recompute each block in the backward pass to save memory. Defaults to False.
        init_cfg (dict or list[dict], optional): MMEngine's weight initialization. None selects Kaiming for
            convolutions, and 1 for norms. Defaults to None.

    Shape: ``(N, in_channels, H, W)`` to a tuple of ``(N, C_i, H_i, W_i)``, one for each of ``out_indices``.

    Raises:
        ValueError: if an argument is out of range. On loading a state dict: if it is that of another network, depth or
            width.
    """

    inner = r'layer\d+\.\d+\.conv\d\.weight'
    arch: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        20: (BasicBlock, (3, 3, 3)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
    }

    @checked
    def __init__(
        self,
        depth: int,
        in_channels: Positive = 3,
        base_channels: Positive = 64,
        num_stages: int = 4,
        strides: Sequence[Positive] = (1, 2, 2, 2),
        dilations: Sequence[Positive] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        stem: Literal['resnet', 'light', 'patch', 'cifar'] = 'resnet',
        style: str = 'pytorch',
        frozen_stages: int = -1,
        conv_cfg: Cfg | None = {'type': 'surge_mm.SurgeConv2d'},  # noqa: B006
        norm_cfg: Cfg = {'type': 'BN', 'requires_grad': True},  # noqa: B006
        act_cfg: Cfg = {'type': 'PReLU'},  # noqa: B006
        shortcut: Literal['conv', 'pad'] = 'conv',
        shortcut_around: Literal['conv', 'block'] = 'conv',
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Cfg | list[Cfg] | None = None,
    ) -> None:
        if depth not in self.arch:
            raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, self.arch))}')
        block, counts = self.arch[depth]
        if not 1 <= num_stages <= len(counts) or min(len(strides), len(dilations)) < num_stages:
            raise ValueError(
                f'num_stages={num_stages!r} must be 1 to {len(counts)} for depth={depth}, with as many strides and '
                'dilations'
            )
        if not out_indices or not all(0 <= i < num_stages for i in out_indices):
            raise ValueError(
                f'out_indices={out_indices!r} must be in 0 to {num_stages - 1} for num_stages={num_stages}'
            )
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f'frozen_stages={frozen_stages!r} must be in -1 to {num_stages}')
        if stem == 'light' and base_channels < 2:
            raise ValueError(f"base_channels={base_channels} must be at least 2 for stem='light'")
        if style != 'pytorch':
            raise ValueError(
                f"style={style!r} must be 'pytorch': the 3x3 convolution has the stride"
            )
        blocks_style = BlockStyle(conv_cfg, norm_cfg, act_cfg, shortcut, shortcut_around)
        if init_cfg is None:
            init_cfg = [
                {'type': 'Kaiming', 'layer': 'Conv2d'},
                {'type': 'Constant', 'val': 1, 'layer': ['_BatchNorm', 'GroupNorm']},
            ]
        super().__init__(init_cfg)
        self.depth = depth
        self.base_channels = base_channels
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self._make_stem(stem, in_channels, base_channels, norm_cfg, act_cfg)

        channels = base_channels
        self.stages: list[str] = []
        for i in range(num_stages):
            width = base_channels * 2**i
            blocks = []
            for j in range(counts[i]):
                stride = strides[i] if j == 0 else 1
                blocks.append(block(channels, width, stride, dilations[i], blocks_style))
                channels = width * block.expansion
            self.add_module(f'layer{i + 1}', nn.Sequential(*blocks))
            self.stages.append(f'layer{i + 1}')
        self._freeze()

    def _make_stem(
        self, stem: str, in_channels: int, channels: int, norm_cfg: Cfg, act_cfg: Cfg
    ) -> None:
        if stem == 'resnet':
            self.conv1: nn.Module = nn.Conv2d(
                in_channels, channels, 7, stride=2, padding=3, bias=False
            )
            self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        elif stem == 'patch':
            self.conv1 = nn.Conv2d(in_channels, channels, 5, stride=4, padding=2, bias=False)
            self.maxpool = nn.Identity()
        elif stem == 'cifar':
            self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            half = channels // 2
            self.conv1 = nn.Sequential(
                nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False),
                build_norm_layer(norm_cfg, half)[1],
                build_activation(act_cfg, half),
                nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
            )
            self.maxpool = nn.Identity()
        self.bn1 = build_norm_layer(norm_cfg, channels)[1]
        self.act1 = build_activation(act_cfg, channels)

    def _freeze(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen = [self.conv1, self.bn1, self.act1]
        frozen += [getattr(self, name) for name in self.stages[: max(self.frozen_stages, 0)]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    @property
    def network(self) -> str:
        """Name of the network in error messages."""
        return f'SurgeResNet(depth={self.depth}, base_channels={self.base_channels})'

    def _is_mine(self, name: str) -> bool:
        return name.split('.')[0] in self.stages  # stages beyond num_stages are ignored

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.act1(self.bn1(self.conv1(x))))
        outputs = []
        for i, name in enumerate(self.stages):
            for block in getattr(self, name):
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint.checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if i in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> SurgeResNet:
        """Set training or evaluation mode; frozen stages, and norms with ``norm_eval``, stay in evaluation mode.

        Args:
            mode (bool): True for training. Defaults to True.
        """
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
