"""The layers of a model that hold weights, where they stand, and whether they can be binary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mmcv.cnn
from torch import nn

from surge_mm.layers import BinaryLayer, SurgeConv2d, SurgeLinear

BINARY_FORM: dict[type[nn.Module], type[SurgeConv2d] | type[SurgeLinear]] = {
    nn.Conv2d: SurgeConv2d,
    mmcv.cnn.Conv2d: SurgeConv2d,
    nn.Linear: SurgeLinear,
    mmcv.cnn.Linear: SurgeLinear,
}
"""The classes that can become binary: these alone, for a subclass computes something else."""
READ_THEIR_WEIGHTS = {
    'torch.nn.modules.transformer.TransformerEncoderLayer',
    'torch.nn.modules.transformer.TransformerDecoderLayer',
    'mmpretrain.models.utils.attention.WindowMSAV2',
    'mmpretrain.models.utils.attention.BEiTAttention',
    'mmpretrain.models.utils.attention.CrossMultiheadAttention',
}
"""Classes of PyTorch and the hosts that compute with the weights of their linear layers, past the layers' forward."""


@dataclass(frozen=True)
class Candidate:
    """A layer with weights, and where it stands.

    Attributes:
        name: Its dotted name; of a layer that stands in several places, the first one.
        layer: The layer itself.
        inside: The class names of the modules that hold it, at any depth, and of their bases.
        hindrance: Why it cannot be binary; empty where it can.
    """

    name: str
    layer: nn.Module
    inside: frozenset[str]
    hindrance: str = ''

    @property
    def type(self) -> str:
        return type(self.layer).__name__

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels; (0, 0) of a layer that has none, as an embedding."""
        for names in (('in_channels', 'out_channels'), ('in_features', 'out_features')):
            if all(hasattr(self.layer, name) for name in names):
                return getattr(self.layer, names[0]), getattr(self.layer, names[1])
        return 0, 0

    @property
    def groups(self) -> int:
        return getattr(self.layer, 'groups', 1)

    @property
    def frozen(self) -> bool:
        return not self.layer.weight.requires_grad


def find_candidates(model: nn.Module) -> list[tuple[Candidate, nn.Module, str]]:
    """Every place of every layer that holds a matrix of weights, with the module and the attribute that hold it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = []
    for name, module in modules.items():
        weight = getattr(module, 'weight', None)
        if not name or isinstance(module, BinaryLayer) or getattr(weight, 'ndim', 0) < 2:
            continue
        parts = name.split('.')
        above = [modules['.'.join(parts[:i])] for i in range(len(parts))]
        inside = frozenset(base.__name__ for holder in above for base in type(holder).__mro__)
        one = Candidate(name, module, inside, hindrance_of(module, above, parts))
        found.append((one, above[-1], parts[-1]))
    return found


def hindrance_of(layer: nn.Module, above: Sequence[nn.Module], path: Sequence[str]) -> str:
    """Why a layer cannot be binary; empty where it can.

    Args:
        layer (nn.Module): The layer.
        above (Sequence[nn.Module]): The modules that hold it, from the model down.
        path (Sequence[str]): The parts of its dotted name, one for each of ``above``.
    """
    if type(layer) not in BINARY_FORM:
        return f'a {type(layer).__name__} has no binary form, as Conv2d and Linear have'
    for holder, attribute, below in zip(above, path, [*path[1:], ''], strict=True):
        kind = type(holder)
        if f'{kind.__module__}.{kind.__qualname__}' in READ_THEIR_WEIGHTS:
            return f'{kind.__name__} computes with the weight itself, past the layer'
        if hasattr(holder, 'switch_to_deploy'):
            return f'{kind.__name__} merges its weights with others for deployment'
        extra = getattr(holder, 'relu_before_extra_convs', False) and attribute == 'fpn_convs'
        if extra and int(below) > len(holder.lateral_convs):  # type: ignore[arg-type]
            return f'{kind.__name__} puts a ReLU before it, so that its input is never negative'
    return ''
