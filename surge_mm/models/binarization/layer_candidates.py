"""Search of a model for layers with weights, and for the reasons why some cannot be binary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from surge_mm.layers import BinaryLayer, SurgeConv2d, SurgeLinear

BINARY_FORMS: dict[str, type[SurgeConv2d] | type[SurgeLinear]] = {
    'torch.nn.modules.conv.Conv2d': SurgeConv2d,
    'mmcv.cnn.bricks.wrappers.Conv2d': SurgeConv2d,
    'torch.nn.modules.linear.Linear': SurgeLinear,
    'mmcv.cnn.bricks.wrappers.Linear': SurgeLinear,
}
"""Binary layer for each class that can be binarized. Subclasses are excluded, because their forward may differ."""
WEIGHT_READERS = {
    'torch.nn.modules.transformer.TransformerEncoderLayer',
    'torch.nn.modules.transformer.TransformerDecoderLayer',
    'mmpretrain.models.utils.attention.WindowMSAV2',
    'mmpretrain.models.utils.attention.BEiTAttention',
    'mmpretrain.models.utils.attention.CrossMultiheadAttention',
    'timm.models.beit.Attention',
    'timm.models.eva.EvaAttention',
    'timm.models.swin_transformer_v2.WindowAttention',
    'torchvision.models.swin_transformer.ShiftedWindowAttention',
    'torchvision.models.swin_transformer.ShiftedWindowAttentionV2',
    'torchvision.models.video.swin_transformer.ShiftedWindowAttention3d',
}
"""Classes that read the weights of their linear layers directly instead of calling the layers. The default rules keep
these layers. :mod:`.weight_use` finds those of other classes when the model runs."""
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Candidate:
    """A layer with weights, under one of its names.

    Attributes:
        name (str): Dotted name of the layer in the model.
        layer (nn.Module): The layer.
        inside (frozenset[str]): Names of the classes, and of their base classes, of all modules that contain the layer.
        unsupported_reason (str, optional): Why the layer cannot be binary. None if it can.
        source (nn.Module, optional): Layer whose weight that of this layer follows, as in a mean teacher.
    """

    name: str
    layer: nn.Module
    inside: frozenset[str]
    unsupported_reason: str | None = None
    source: nn.Module | None = None

    @property
    def type(self) -> str:
        """Name of the class of the layer."""
        return type(self.layer).__name__

    @property
    def channels(self) -> tuple[int, int]:
        """Numbers of input and output channels; (0, 0) for a layer without channels, such as an embedding."""
        for names in (('in_channels', 'out_channels'), ('in_features', 'out_features')):
            if all(hasattr(self.layer, name) for name in names):
                return getattr(self.layer, names[0]), getattr(self.layer, names[1])
        return 0, 0

    @property
    def groups(self) -> int:
        """Number of groups of the convolution; 1 for other layers."""
        return getattr(self.layer, 'groups', 1)

    @property
    def frozen(self) -> bool:
        """Whether the weight, or the one that it follows, is not trained."""
        return not (self.source or self.layer).weight.requires_grad


def find_candidates(model: nn.Module, twins: Mapping[nn.Module, nn.Module]) -> list[Candidate]:
    """Find all layers whose weight has two axes or more, except binary layers and the model itself.

    Args:
        model (nn.Module): Model to search.
        twins (Mapping[nn.Module, nn.Module]): The modules whose weights follow those of others, with these.

    Returns:
        list[Candidate]: One entry for each name of each layer, in the order of the model. A shared layer has several.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    real = {  # such as the embedding whose weight is that of the predictor of a language model
        id(module._parameters.get('weight')): name
        for name, module in modules.items()
        if class_path(module) not in BINARY_FORMS and not isinstance(module, BinaryLayer)
    }
    candidates = []
    for name, module in modules.items():
        weight = getattr(module, 'weight', None)
        if not name or isinstance(module, BinaryLayer) or getattr(weight, 'ndim', 0) < 2:
            continue
        path = name.split('.')
        ancestors = [modules['.'.join(path[:i])] for i in range(len(path))]
        inside = frozenset().union(*map(base_class_names, ancestors))
        reason = unsupported_reason(module, ancestors, path)
        if reason is None and real.get(id(weight)):
            reason = f'its weight is that of {real[id(weight)]}, which cannot be binary'
        candidates.append(Candidate(name, module, inside, reason, twins.get(module)))
    return candidates


def base_class_names(module: nn.Module) -> set[str]:
    """Return the names of the class of ``module`` and of all its base classes."""
    return {cls.__name__ for cls in type(module).__mro__}


def class_path(module: nn.Module) -> str:
    """Return the full name of the class of ``module``, such as ``'torch.nn.modules.conv.Conv2d'``."""
    return f'{type(module).__module__}.{type(module).__qualname__}'


def forward_path(module: nn.Module) -> str:
    """Return the full name of the class whose ``forward`` a module runs; an empty string for a function of its own."""
    if 'forward' in vars(module):
        return ''
    owner = next(cls for cls in type(module).__mro__ if 'forward' in vars(cls))
    return f'{owner.__module__}.{owner.__qualname__}'


def unsupported_reason(
    layer: nn.Module, ancestors: Sequence[nn.Module], path: Sequence[str]
) -> str | None:
    """Explain why a layer cannot be binary.

    Args:
        layer (nn.Module): The layer.
        ancestors (Sequence[nn.Module]): Modules that contain the layer, from the model down.
        path (Sequence[str]): Parts of the dotted name of the layer. Part ``i`` is an attribute of ``ancestors[i]``.

    Returns:
        str, optional: The reason. None if the layer can be binary.
    """
    if class_path(layer) not in BINARY_FORMS:
        return f'class {type(layer).__name__} has no binary form; Conv2d and Linear have one'
    if 'weight' not in layer._parameters:
        return 'a forward pre-hook, such as that of spectral_norm, computes its weight'
    for ancestor, attribute, child in zip(ancestors, path, [*path[1:], ''], strict=True):
        kind = type(ancestor).__name__
        if class_path(ancestor) in WEIGHT_READERS:
            return f'{kind} computes with the weight directly and does not call the layer'
        if hasattr(ancestor, 'switch_to_deploy'):
            return f'{kind} merges the weights of its layers for deployment'
        if attribute == 'fpn_convs' and getattr(ancestor, 'relu_before_extra_convs', False):
            lateral: nn.ModuleList = ancestor.lateral_convs  # type: ignore[assignment]
            if int(child) > len(lateral):
                return f'{kind} applies ReLU before the layer, so its input is never negative'
    return None
