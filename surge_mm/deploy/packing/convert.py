"""Conversion of trained models for inference: removal of what only training needs, and packing of binary layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from surge_mm.deploy.packing.binary_weights import unsupported_reason
from surge_mm.deploy.packing.epilogue import RELUS, can_fold_activation, can_fold_norm
from surge_mm.deploy.packing.packed_blocks import PackedBottleneck, PackedReActBlock, PackedStage
from surge_mm.deploy.packing.packed_embedding import PackedEmbedding
from surge_mm.deploy.packing.packed_layers import (
    PackedConv2d,
    PackedLayer,
    PackedLinear,
    PackedShortcutConv2d,
)
from surge_mm.deploy.packing.real_norms import fuse_norms
from surge_mm.deploy.packing.unfused import (
    BASIC_BLOCK,
    BOTTLENECK,
    REACT_BLOCK,
    find_unfused,
    is_conv_module,
    is_sequence,
)
from surge_mm.deploy.real_layers.convert import check_real, convert_real, find_real
from surge_mm.layers import BinaryEmbedding, BinaryLayer, LearnedActivation, SurgeConv2d
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.models.binarization.layer_candidates import base_class_names, class_path
from surge_mm.models.binarization.shortcuts import NORMS, ShortcutSequential
from surge_mm.models.binarization.weight_use import forget_check
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import is_packed, replace_modules


@dataclass(frozen=True)
class Packing:
    """Result of :func:`pack`.

    Attributes:
        packed (tuple[str, ...]): Names, in the model before, of the binary layers and embeddings that are packed.
        kept (dict[str, str]): Names of the binary layers that are not, each with the reason.
        unfused (dict[str, str]): Names of the norms and activations behind binary layers that run in PyTorch, each with
            the reason. A module that is registered after a binary layer and before the next layer with weights counts
            as behind it. Functions such as ``torch.nn.functional.relu`` are not found. Defaults to ``{}``.
        real (dict[str, str]): Names, in the packed model, of the real-valued convolutions that are not in float32, each
            with its dtype. Defaults to ``{}``.
        kept_float (dict[str, str]): Names of the other real-valued layers, each with the reason, if a dtype was asked
            for. Defaults to ``{}``.
    """

    packed: tuple[str, ...]
    kept: dict[str, str]
    unfused: dict[str, str] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    kept_float: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f'{len(self.packed)} binary layers packed']
        lines += [f'kept: {name}: {reason}' for name, reason in self.kept.items()]
        lines += [f'in PyTorch: {name}: {reason}' for name, reason in self.unfused.items()]
        lines += [f'in {dtype}: {name}' for name, dtype in self.real.items()]
        lines += [f'in float32: {name}: {reason}' for name, reason in self.kept_float.items()]
        return '\n'.join(lines)

    __repr__ = __str__  # one line for each layer in a notebook too


def strip(model: nn.Module) -> nn.Module:
    """Remove what only training needs, in place: auxiliary branches, the teacher, gradients.

    The output of the model stays the same, to the bit. The result is in evaluation mode and cannot be trained further;
    use the checkpoint for that.

    Args:
        model (nn.Module): A model with binary layers.

    Returns:
        nn.Module: The model itself.
    """
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            module.aux_weight = None
            module.scale = module.branch_dtype = None
            module.tied = module.frozen = False
            module.ags_warmup = module.ags_statistics = None
            module.warn_as = ''
        if hasattr(module, '_teacher'):
            module._teacher = []  # type: ignore[assignment]
        if hasattr(module, 'with_cp'):
            module.with_cp = False  # type: ignore[assignment]
    model.requires_grad_(False).eval()  # returns None in some hosts, such as LAD
    return model


def pack(
    model: nn.Module,
    real: Literal['float32', 'bfloat16', 'int8'] = 'float32',
    calibration: Iterable[Any] | None = None,
) -> nn.Module:
    """Strip a model and pack its binary layers, in place.

    The result is still the host's detector or classifier. In the blocks of this package's backbones, in ``ConvModule``
    and in ``nn.Sequential``, batch norm, shortcut and activation after a layer are folded into it. Subclasses with a
    ``forward`` of their own are left as they are, and so are modules with forward hooks. A model that calls a part of
    an ``nn.Sequential``, as by ``self.stem[:3](x)``, or keeps what is between its children, has other outputs once
    these are folded, without an error: register such parts one by one. Real convolutions get the memory format
    channels_last (:func:`surge_mm.layers.memory_format.to_channels_last`). The other batch norms compute the activation
    and the max pool behind them in one pass (:mod:`.packing.real_norms`), with the same outputs. ``model.packing``, a
    :class:`Packing`, lists the layers that were packed, those that were not, and the norms and activations behind them
    that are not part of a packed layer. It also lists the real-valued convolutions that ``real`` replaces, and the
    real-valued layers that it cannot replace.

    Args:
        model (nn.Module): A model with binary layers, or a binary layer.
        real (str): Dtype of the real-valued convolutions. ``'int8'`` is quantized statically
            (:mod:`surge_mm.deploy.real_layers.int8_conv`). ``'bfloat16'`` has an effect on CPUs with units for it.
            Defaults to ``'float32'``, with the outputs of the model before.
        calibration (Iterable, optional): Images on which the ranges of inputs are measured for ``'int8'``: tensors
            (N, 3, H, W) for ``model(x)``, or batches of a data loader for ``model.test_step(batch)``. Defaults to None.

    Returns:
        nn.Module: The model itself, or the packed module if ``model`` is a binary layer or a block.

    Raises:
        UsageError: if the model has no binary layer, none that can be packed, or is packed already, ``real`` is
            unknown, or images for ``'int8'`` are missing.
    """
    calibration = check_real(model, real, calibration)
    if is_packed(model):
        raise UsageError(f'{type(model).__name__} is packed already')
    binary = {name: m for name, m in model.named_modules() if isinstance(m, BinaryLayer)}
    if not binary:
        raise UsageError(
            f'{type(model).__name__} has no binary layer, so there is nothing to pack. Make it binary first: '
            "surge_mm.binarize(model), or, in a config, conv_cfg=dict(type='surge_mm.SurgeConv2d') in its backbone"
        )
    for name, module in model.named_modules():
        if isinstance(module, LearnedActivation) and getattr(module.activation, 'bits', 1) != 1:
            raise UsageError(
                f'{name}: its activation {module.activation} has four values, for training alone, and cannot be '
                'packed. Train the next step, with bits=1, from this checkpoint, and pack that one'
            )
    forget_check(model)  # its hooks would keep the network from running without its modules
    reasons = {name: unsupported_reason(layer) for name, layer in binary.items()}
    embeddings = {n: m for n, m in model.named_modules() if isinstance(m, BinaryEmbedding)}
    packing = Packing(
        packed=(*embeddings, *(name for name, reason in reasons.items() if not reason)),
        kept={name: reason for name, reason in reasons.items() if reason},
    )
    if all(reasons.values()):
        name, reason = next(iter(packing.kept.items()))
        raise UsageError(
            f'none of the {len(binary)} binary layers of {type(model).__name__} can be packed: {name}: {reason}'
        )
    model = replace_modules(strip(model), _packed_blocks(model))
    for module in list(model.modules()):
        if is_sequence(module):
            _pack_sequence(module)
        if is_conv_module(module):
            _pack_conv_module(module)
    layers = [module for module in model.modules() if _can_pack(module)]
    packed: dict[nn.Module, nn.Module] = {layer: _packed(layer) for layer in layers}  # type: ignore[arg-type]
    packed |= {layer: PackedEmbedding(layer) for layer in embeddings.values()}
    model = replace_modules(model, packed)
    real_layers, kept_float = find_real(model, real)
    to_channels_last(model)
    kept_float |= convert_real(model, real_layers, real, calibration)
    model.packing = replace(  # type: ignore[assignment]
        packing,
        unfused=find_unfused(model),
        real={name: real for name in real_layers if name not in kept_float},
        kept_float=kept_float,
    )
    fuse_norms(model)
    return model


def _can_pack(layer: nn.Module) -> bool:
    return isinstance(layer, BinaryLayer) and not unsupported_reason(layer)


def _packed(layer: BinaryLayer) -> PackedLayer:
    return PackedConv2d(layer) if isinstance(layer, SurgeConv2d) else PackedLinear(layer)


def _packed_blocks(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Pack the blocks of a model that become one module each."""
    packed: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if _is_block(module, BOTTLENECK, (('conv2', 'bn2', 'act2'),)):
            packed[module] = PackedBottleneck(module)  # type: ignore[arg-type]
        elif _is_block(module, REACT_BLOCK, (('conv1', 'bn1', 'act1'),)):
            packed[module] = PackedReActBlock(module)  # type: ignore[arg-type]
    return packed


def _pack_sequence(parent: Any) -> None:
    """Make one module of a stage of basic blocks; else fold norms and activations into the layers before them."""
    children = list(parent)
    parts = (('conv1', 'bn1', 'act1'), ('conv2', 'bn2', 'act2'))
    if children and all(_is_block(child, BASIC_BLOCK, parts) for child in children):
        for name in list(parent._modules)[1:]:
            del parent._modules[name]
        parent[0] = PackedStage(children)
        return
    shortcuts = parent.shortcuts if isinstance(parent, ShortcutSequential) else {}
    for i, (name, layer) in enumerate(list(parent._modules.items())):
        if not (isinstance(layer, SurgeConv2d) and _can_pack(layer)):
            continue
        after = i + 1
        norm = children[after] if after < len(children) else None
        folds_norm = norm is not None and can_fold_norm(norm)
        if adds_shortcut := name in shortcuts and (folds_norm or not isinstance(norm, NORMS)):
            del shortcuts[name]
        packed = (PackedShortcutConv2d if adds_shortcut else PackedConv2d)(layer)
        parent[i] = packed
        if folds_norm:
            packed.epilogue.fold_norm(norm)  # type: ignore[arg-type]
            parent[after] = nn.Identity()
            after += 1
        if name in shortcuts:  # added by the sequence, hence before the activation
            continue
        if after < len(children) and can_fold_activation(children[after]):
            packed.epilogue.fold_activation(children[after])
            parent[after] = nn.Identity()


def _pack_conv_module(parent: Any) -> None:
    """Pack the convolution of a ``ConvModule``, and fold norm and activation into it if they come in this order."""
    if not _can_pack(parent.conv) or parent.order != ('conv', 'norm', 'act'):
        return
    folds_norm = parent.with_norm and can_fold_norm(parent.norm)
    adds_shortcut = 'ShortcutConvModule' in base_class_names(parent) and (
        folds_norm or not parent.with_norm
    )
    packed = (PackedShortcutConv2d if adds_shortcut else PackedConv2d)(parent.conv)
    parent.conv = packed
    if adds_shortcut:
        parent.fused = True
    if parent.with_norm and not folds_norm:
        return
    if folds_norm:
        packed.epilogue.fold_norm(parent.norm)
        setattr(parent, parent.norm_name, nn.Identity())
    if parent.with_activation and can_fold_activation(parent.activate):
        packed.epilogue.fold_activation(parent.activate)
        parent.activate = nn.Identity()


def _is_block(block: nn.Module, kind: str, parts: tuple[tuple[str, str, str], ...]) -> bool:
    """Whether a module is of this class and each of its (convolution, norm, activation) can become one packed layer.

    Blocks with ReLU are not, because packed files of earlier versions have the tensors of their parts.
    """
    if class_path(block) != kind:
        return False
    return all(
        _can_pack(getattr(block, conv))
        and can_fold_norm(getattr(block, norm))
        and can_fold_activation(getattr(block, activation))
        and type(getattr(block, activation)) not in RELUS
        for conv, norm, activation in parts
    )
