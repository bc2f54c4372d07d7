"""Search of a packed model for norms and activations behind binary layers that are not part of a packed layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.deploy.packing.epilogue import NORM_FORWARDS, can_fold_activation, can_fold_norm
from surge_mm.deploy.packing.packed_layers import PackedLayer, PackedLinear
from surge_mm.layers import BinaryLayer
from surge_mm.layers.memory_format import has_hooks
from surge_mm.models.binarization.layer_candidates import class_path, forward_path
from surge_mm.models.binarization.shortcuts import NORMS

BASIC_BLOCK = 'surge_mm.models.backbones.residual_blocks.BasicBlock'
BOTTLENECK = 'surge_mm.models.backbones.residual_blocks.Bottleneck'
REACT_BLOCK = 'surge_mm.models.backbones.reactnet.ReActBlock'
BLOCKS = (BASIC_BLOCK, BOTTLENECK, REACT_BLOCK)
"""Blocks that are packed as a whole. They are imported by those who have such models, since they need the hosts."""
SEQUENCE_FORWARDS = {
    'torch.nn.modules.container.Sequential',
    'surge_mm.models.binarization.shortcuts.ShortcutSequential',
}
CONV_MODULE_FORWARDS = {
    'mmcv.cnn.bricks.conv_module.ConvModule',
    'mmpretrain.models.backbones.efficientnet_v2.EnhancedConvModule',
    'surge_mm.models.binarization.shortcut_conv_module.ShortcutConvModule',
}
"""Classes whose ``forward`` calls convolution, norm and activation in order. Another ``forward`` may use the output of
the convolution otherwise, so nothing is folded there."""
LISTS = (nn.ModuleList, nn.ModuleDict)
ACTIVATIONS = {
    *nn.modules.activation.__all__,
    'Clamp',
    'HSigmoid',
    'HSwish',
    'QuickGELU',
    'RPReLU',
    'Swish',
}
"""Names of the classes of activations."""


def find_unfused(model: nn.Module) -> dict[str, str]:
    """Return the names of norms and activations behind binary layers that run in PyTorch, each with the reason.

    A module is behind a layer if it is registered after it in the module that contains both, before the next layer with
    weights. In a ``ConvModule``, its order counts. Functions such as ``torch.nn.functional.relu`` are not found.

    Args:
        model (nn.Module): A packed model.
    """
    found: dict[str, str] = {}
    for prefix, holder in model.named_modules():
        if isinstance(holder, LISTS):
            continue
        layer: nn.Module | None = None
        before = ''
        for name, module in _in_order(holder):
            if isinstance(module, (PackedLayer, BinaryLayer)):
                layer, before = module, ''
            elif _is_norm(module) or _is_activation(module):
                if layer is not None:
                    found[f'{prefix}.{name}'.lstrip('.')] = _reason(holder, layer, module, before)
                before = type(module).__name__
            elif any(module.children()) or getattr(module, 'weight', None) is not None:
                layer = None
            elif not isinstance(module, nn.Identity):
                before = type(module).__name__
    return found


def is_sequence(module: nn.Module) -> bool:
    """Return whether a module calls its children one after another, as ``nn.Sequential`` does."""
    return forward_path(module) in SEQUENCE_FORWARDS


def is_conv_module(module: nn.Module) -> bool:
    """Return whether a module computes what ``ConvModule`` of mmcv computes, in its order."""
    return forward_path(module) in CONV_MODULE_FORWARDS


def _in_order(holder: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a holder, and those of its lists, with their names."""
    children = dict(holder.named_children())
    if is_conv_module(holder):
        names = {'conv': 'conv', 'norm': holder.norm_name, 'act': 'activate'}
        children = {names[k]: children[names[k]] for k in holder.order if names[k] in children}
    for name, child in children.items():
        if isinstance(child, LISTS):
            yield from ((f'{name}.{inner}', module) for inner, module in _in_order(child))
        else:
            yield name, child


def _reason(holder: nn.Module, layer: nn.Module, module: nn.Module, before: str) -> str:
    kind = type(module).__name__
    if isinstance(layer, BinaryLayer):
        return 'the layer is not packed'
    if isinstance(layer, PackedLinear):
        return 'nothing is folded into linear layers'
    if has_hooks(module):
        return f'{kind} has forward hooks'
    if isinstance(module, _BatchNorm) and forward_path(module) not in NORM_FORWARDS:
        return f'{kind} has a forward of its own'
    if _is_norm(module) and not can_fold_norm(module):
        return f'{kind} has no fixed scale and shift for each channel'
    if _is_activation(module) and not can_fold_activation(module):
        return f'{kind} cannot be folded'
    if class_path(holder) in BLOCKS:
        return f'its {type(holder).__name__} cannot be packed as a whole'
    if not (is_conv_module(holder) or is_sequence(holder)):
        return f'{type(holder).__name__} calls it; folded are those in ConvModule and nn.Sequential'
    if before:
        return f'{before} comes before it'
    if is_sequence(holder):
        return 'another norm or activation is folded before it'
    return f'the order is {", ".join(holder.order)}'  # type: ignore[arg-type]


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (*NORMS, nn.LayerNorm))


def _is_activation(module: nn.Module) -> bool:
    return type(module).__name__ in ACTIVATIONS and not isinstance(module, nn.MultiheadAttention)
