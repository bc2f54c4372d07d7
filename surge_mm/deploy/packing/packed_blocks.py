"""Blocks of packed layers. Shortcut, activation and the signs for the next layer are computed with each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from surge_mm.deploy.packing.packed_layers import PackedConv2d, PackedLayer
from surge_mm.deploy.packing.signs import LayerOutput
from surge_mm.ops.shortcut import pool_shortcut

if TYPE_CHECKING:
    from surge_mm.models.backbones.reactnet import ReActBlock
    from surge_mm.models.backbones.residual_blocks import BasicBlock, Bottleneck


class PackedBasicBlock(nn.Module):
    """Packed :class:`~surge_mm.models.backbones.residual_blocks.BasicBlock`.

    Args:
        block (BasicBlock): The block, whose convolutions can be packed and whose batch norms and activations folded.
    """

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            pack_conv(block.conv1, block.bn1),
            pack_conv(block.conv2, block.bn2),
        )
        self.conv1.epilogue.fold_activation(block.act1)
        self.conv2.epilogue.fold_activation(block.act2)
        self.downsample = block.downsample
        shortcut = block.downsample
        self._identity = not len(shortcut) and shortcut.stride == 1 and shortcut.missing == 0
        self.around = block.around

    def run(self, x: LayerOutput, following: PackedLayer | None) -> LayerOutput:
        """Return the output of the block.

        Args:
            x (LayerOutput): Input with its values, ``(N, C_in, H, W)``.
            following (PackedLayer, optional): The layer that reads the signs of the output.
        """
        assert x.values is not None
        shortcut = x.values if self._identity else self.downsample(x.values)
        if self.around == 'block':
            inner = self.conv1.run(x.input(), None, self.conv2, values=False)
            return self.conv2.run(inner.input(), shortcut, following)
        inner = self.conv1.run(x.input(), shortcut, self.conv2)
        return self.conv2.run(inner.input(), inner.values, following)


class PackedStage(nn.Module):
    """Packed basic blocks in sequence. Each one makes the signs that the next one reads.

    Args:
        blocks (Sequence[BasicBlock]): The blocks.
    """

    def __init__(self, blocks: Sequence[BasicBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(PackedBasicBlock(block) for block in blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last block.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.
        """
        blocks: list[PackedBasicBlock] = list(self.blocks)  # type: ignore[arg-type]
        out = LayerOutput(x, None)
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            out = block.run(out, None if after is None else after.conv1)
        assert out.values is not None
        return out.values


class PackedBottleneck(nn.Module):
    """:class:`~surge_mm.models.backbones.residual_blocks.Bottleneck` with a packed 3x3 convolution.

    Args:
        block (Bottleneck): The block.
    """

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = block.conv1, block.bn1, block.act1
        self.conv2 = pack_conv(block.conv2, block.bn2)
        self.conv2.epilogue.fold_activation(block.act2)
        self.conv3, self.bn3, self.act3 = block.conv3, block.bn3, block.act3
        self.downsample, self.stride = block.downsample, block.stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.
        """
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.conv2.run(out, pool_shortcut(out, self.stride)).values
        return self.act3(self.bn3(self.conv3(out)) + self.downsample(x))


class PackedReActBlock(nn.Module):
    """:class:`~surge_mm.models.backbones.reactnet.ReActBlock` of packed layers.

    Args:
        block (ReActBlock): The block.
    """

    def __init__(self, block: ReActBlock) -> None:
        super().__init__()
        self.stride = block.stride
        self.conv1 = pack_conv(block.conv1, block.bn1)
        self.conv1.epilogue.fold_activation(block.act1)
        self.conv2 = nn.ModuleList()
        for i, (conv, norm) in enumerate(zip(block.conv2, block.bn2, strict=True)):
            packed = pack_conv(conv, norm)
            width = packed.shape[0]
            packed.epilogue.fold_activation(block.act2, slice(i * width, (i + 1) * width))
            self.conv2.append(packed)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.
        """
        layers: list[PackedLayer] = list(self.conv2)  # type: ignore[arg-type]
        first, *others = layers
        inner = self.conv1.run(x, pool_shortcut(x, self.stride), first)
        assert inner.values is not None
        outputs = [first.run(inner.input(), inner.values)]
        outputs += [conv.run(inner.values, inner.values) for conv in others]
        parts = [out.values for out in outputs if out.values is not None]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def pack_conv(conv: nn.Module, norm: nn.Module) -> PackedConv2d:
    """Pack a convolution with the batch norm after it.

    Args:
        conv (SurgeConv2d): The convolution.
        norm (_BatchNorm): The batch norm, which :func:`surge_mm.deploy.packing.epilogue.can_fold_norm` accepts.
    """
    packed = PackedConv2d(conv)  # type: ignore[arg-type]
    packed.epilogue.fold_norm(norm)  # type: ignore[arg-type]
    return packed
