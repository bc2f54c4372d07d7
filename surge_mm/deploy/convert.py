"""From a trained model to one for inference: what only training needs is dropped, binary layers are packed."""

from __future__ import annotations

from dataclasses import dataclass

import mmcv.cnn
import torch
from torch import nn

from surge_mm.deploy.binary_weights import hindrance
from surge_mm.deploy.epilogue import can_fold_activation, can_fold_norm
from surge_mm.deploy.packed_blocks import PackedBottleneck, PackedReActBlock, PackedStage
from surge_mm.deploy.packed_layers import PackedConv2d, PackedLayer, PackedLinear
from surge_mm.layers import BinaryLayer, SurgeConv2d
from surge_mm.models.backbones.reactnet import ReActBlock
from surge_mm.models.backbones.residual_blocks import BasicBlock, Bottleneck
from surge_mm.utils.errors import UsageError


@dataclass(frozen=True)
class Packing:
    """What became of a model.

    Attributes:
        packed (tuple[str, ...]): The binary layers that are packed now, by their names in the model before.
        kept (dict[str, str]): Those that stay as they were, and why.
    """

    packed: tuple[str, ...]
    kept: dict[str, str]

    def __str__(self) -> str:
        lines = [f'{len(self.packed)} binary layers packed']
        lines += [f'kept: {name}: {why}' for name, why in self.kept.items()]
        return '\n'.join(lines)


def strip(model: nn.Module) -> nn.Module:
    """Drop what only training needs, in place: auxiliary branches, the teacher, gradients; returns the model.

    What the model computes stays, to the bit. It is in evaluation mode, and what it can go on from is the checkpoint.
    """
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            module.aux_weight = None
            module.scale, module.tied = None, False
            module.ags_warmup = module.ags_statistics = None
            module.warn_as = ''
        if hasattr(module, '_teacher'):
            module._teacher = []  # type: ignore[assignment]
        if hasattr(module, 'with_cp'):
            module.with_cp = False  # type: ignore[assignment]
    return model.requires_grad_(False).eval()


def pack(model: nn.Module) -> nn.Module:
    """Strip the model and pack its binary layers, in place; returns it, still the host's detector or classifier.

    A batch norm and an activation behind a layer are folded into it, and so is the shortcut, in the blocks of this
    package's backbones, in ``ConvModule`` and in ``nn.Sequential``. Real convolutions go to the memory format
    channels_last. ``model.packing`` says what was packed and what was not.

    Args:
        model (nn.Module): A model with binary layers. One that is itself a binary layer gives the packed layer.

    Raises:
        UsageError: there is nothing binary in it, or nothing that can be packed.
    """
    if isinstance(model, PackedLayer) or any(isinstance(m, PackedLayer) for m in model.modules()):
        raise UsageError(f'{type(model).__name__} is packed already')
    binary = {name: m for name, m in model.named_modules() if isinstance(m, BinaryLayer)}
    if not binary:
        raise UsageError(
            f'{type(model).__name__} has no binary layer, so there is nothing to pack. Make it binary first: conv_cfg='
            "dict(type='surge_mm.SurgeConv2d') in its backbone, or surge_mm.binarize(model)"
        )
    kept = {name: why for name, layer in binary.items() if (why := hindrance(layer))}
    if len(kept) == len(binary):
        name, why = next(iter(kept.items()))
        raise UsageError(
            f'none of the {len(binary)} binary layers of {type(model).__name__} can be packed: {name}: {why}'
        )
    strip(model)
    if isinstance(model, BinaryLayer):
        return _packed(model)
    for module in list(model.modules()):
        _pack_children(module)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.packing = Packing(tuple(name for name in binary if name not in kept), kept)  # type: ignore[assignment]
    return model


def _can_pack(layer: nn.Module) -> bool:
    return isinstance(layer, BinaryLayer) and not hindrance(layer)


def _packed(layer: BinaryLayer) -> PackedLayer:
    return PackedConv2d(layer) if isinstance(layer, SurgeConv2d) else PackedLinear(layer)


def _pack_children(parent: nn.Module) -> None:
    """Pack what stands directly in ``parent``: blocks as a whole, else layer by layer."""
    if isinstance(parent, nn.Sequential):
        _pack_sequence(parent)
    if isinstance(parent, mmcv.cnn.ConvModule):
        _pack_conv_module(parent)
    for name, child in list(parent._modules.items()):
        if _is_block(child, Bottleneck, (('conv2', 'bn2', 'act2'),)):
            parent._modules[name] = PackedBottleneck(child)  # type: ignore[arg-type]
        elif _is_block(child, ReActBlock, (('conv1', 'bn1', 'act1'),)):
            parent._modules[name] = PackedReActBlock(child)  # type: ignore[arg-type]
        elif child is not None and _can_pack(child):
            parent._modules[name] = _packed(child)  # type: ignore[arg-type]


def _pack_sequence(parent: nn.Sequential) -> None:
    """A stage of basic blocks becomes one module; a layer takes in the norm and the activation behind it."""
    children = list(parent)
    parts = (('conv1', 'bn1', 'act1'), ('conv2', 'bn2', 'act2'))
    if children and all(_is_block(child, BasicBlock, parts) for child in children):
        for name in list(parent._modules)[1:]:
            del parent._modules[name]
        parent[0] = PackedStage(children)  # type: ignore[arg-type]
        return
    for i, layer in enumerate(children):
        if not (isinstance(layer, SurgeConv2d) and _can_pack(layer)):
            continue
        packed = PackedConv2d(layer)
        parent[i] = packed
        behind = i + 1
        if behind < len(children) and can_fold_norm(children[behind]):
            packed.epilogue.fold_norm(children[behind])  # type: ignore[arg-type]
            parent[behind] = nn.Identity()
            behind += 1
        if behind < len(children) and can_fold_activation(children[behind]):
            packed.epilogue.fold_activation(children[behind])
            parent[behind] = nn.Identity()


def _pack_conv_module(parent: mmcv.cnn.ConvModule) -> None:
    """Its norm and activation go into the layer, if they stand in this order."""
    if not _can_pack(parent.conv) or parent.order != ('conv', 'norm', 'act'):
        return
    packed = PackedConv2d(parent.conv)
    parent.conv = packed
    if parent.with_norm:
        if not can_fold_norm(parent.norm):
            return
        packed.epilogue.fold_norm(parent.norm)
        setattr(parent, parent.norm_name, nn.Identity())
    if parent.with_activation and can_fold_activation(parent.activate):
        packed.epilogue.fold_activation(parent.activate)
        parent.activate = nn.Identity()


def _is_block(
    block: nn.Module | None, kind: type[nn.Module], parts: tuple[tuple[str, str, str], ...]
) -> bool:
    """Whether it is of that kind, and its binary convolutions, norms and activations can become one layer each."""
    if type(block) is not kind:
        return False
    return all(
        _can_pack(getattr(block, conv))
        and can_fold_norm(getattr(block, norm))
        and can_fold_activation(getattr(block, activation))
        for conv, norm, activation in parts
    )
