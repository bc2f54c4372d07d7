"""Blocks of binary networks whose layers are packed, with shortcut, activation and the next signs done in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.packed_layers import PackedConv2d, PackedLayer
from surge_mm.deploy.signs import Signs
from surge_mm.models.backbones.reactnet import ReActBlock
from surge_mm.models.backbones.residual_blocks import BasicBlock, Bottleneck


class PackedBasicBlock(nn.Module):
    """:class:`~surge_mm.models.backbones.residual_blocks.BasicBlock`
    of packed layers, batch norms and activations folded in."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = folded(block.conv1, block.bn1), folded(block.conv2, block.bn2)
        self.conv1.epilogue.fold_activation(block.act1)
        self.conv2.epilogue.fold_activation(block.act2)
        self.downsample = block.downsample
        self.around = block.around

    def run(
        self, x: Tensor, signs: Signs | None, following: PackedLayer | None
    ) -> tuple[Tensor, Signs | None]:
        """The output and the signs that ``following`` reads.

        Args:
            x (Tensor): The input.
            signs (Signs, optional): Its signs as ``conv1`` reads them, if they are made already.
            following (PackedLayer, optional): The layer that reads the signs of the output.
        """
        around = self.downsample(x)
        if self.around == 'block':
            inner, signs = self.conv1.run(signs or x, None, self.conv2, real=False)
            return self.conv2.run(signs or inner, around, following)
        x, signs = self.conv1.run(signs or x, around, self.conv2)
        return self.conv2.run(signs or x, x, following)


class PackedStage(nn.Module):
    """Basic blocks one after another, each of which leaves the signs that the next one reads."""

    def __init__(self, blocks: Sequence[BasicBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PackedBasicBlock(block) for block in blocks)

    def forward(self, x: Tensor) -> Tensor:
        signs = None
        blocks: list[PackedBasicBlock] = list(self.blocks)  # type: ignore[arg-type]
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            x, signs = block.run(x, signs, after.conv1 if after is not None else None)
        return x


class PackedBottleneck(nn.Module):
    """:class:`surge_mm.models.backbones.residual_blocks.Bottleneck` whose 3x3 is packed."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = block.conv1, block.bn1, block.act1
        self.conv2 = folded(block.conv2, block.bn2)
        self.conv2.epilogue.fold_activation(block.act2)
        self.conv3, self.bn3, self.act3 = block.conv3, block.bn3, block.act3
        self.downsample, self.stride = block.downsample, block.stride

    def forward(self, x: Tensor) -> Tensor:
        out = around = self.act1(self.bn1(self.conv1(x)))
        if self.stride != 1:
            around = F.avg_pool2d(out, self.stride, ceil_mode=True, count_include_pad=False)
        out = self.conv2.run(out, around)[0]
        return self.act3(self.bn3(self.conv3(out)) + self.downsample(x))


class PackedReActBlock(nn.Module):
    """:class:`surge_mm.models.backbones.reactnet.ReActBlock` of packed layers."""

    def __init__(self, block: ReActBlock) -> None:
        super().__init__()
        self.stride = block.stride
        self.conv1 = folded(block.conv1, block.bn1)
        self.conv1.epilogue.fold_activation(block.act1)
        self.conv2 = nn.ModuleList()
        for i, (conv, norm) in enumerate(zip(block.conv2, block.bn2, strict=True)):
            packed = folded(conv, norm)
            width = packed.shape[0]
            packed.epilogue.fold_activation(block.act2, slice(i * width, (i + 1) * width))
            self.conv2.append(packed)

    def forward(self, x: Tensor) -> Tensor:
        around = x
        if self.stride != 1:
            around = F.avg_pool2d(x, self.stride, ceil_mode=True, count_include_pad=False)
        layers: list[PackedLayer] = list(self.conv2)  # type: ignore[arg-type]
        first, *others = layers
        x, signs = self.conv1.run(x, around, first)
        parts = [first.run(signs or x, x)[0], *(conv.run(x, x)[0] for conv in others)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def folded(conv: nn.Module, norm: nn.Module) -> PackedConv2d:
    """``conv`` packed, with the batch norm behind it."""
    packed = PackedConv2d(conv)  # type: ignore[arg-type]
    packed.epilogue.fold_norm(norm)  # type: ignore[arg-type]
    return packed
