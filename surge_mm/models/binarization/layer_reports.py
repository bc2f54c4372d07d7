"""What :func:`surge_mm.binarize` decided about each layer of a model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from torch import nn

from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.shortcuts import layers_with_shortcuts


@dataclass(frozen=True)
class LayerReport:
    """The decision of :func:`surge_mm.binarize` about a layer.

    Attributes:
        name (str): Dotted name of the layer; the first one of a shared layer.
        places (tuple[str, ...]): All dotted names of the layer.
        binary (bool): Whether the layer is binary.
        rule (str): Rule that decided, such as ``'rules[0]'`` or ``'default: stem'``.
        shortcut (bool): Whether :func:`surge_mm.binarize` gave it a shortcut.
    """

    name: str
    places: tuple[str, ...]
    binary: bool
    rule: str
    shortcut: bool


def layer_reports(model: nn.Module) -> list[LayerReport]:
    """Return the decisions of :func:`surge_mm.binarize` about a model; an empty list without such a call."""
    places: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if hasattr(module, '_surge_rule'):
            places[module].append(name)
    shortcuts = layers_with_shortcuts(model)
    return [
        LayerReport(
            name=names[0],
            places=tuple(names),
            binary=isinstance(layer, BinaryLayer),
            rule=str(layer._surge_rule),
            shortcut=layer in shortcuts,
        )
        for layer, names in places.items()
    ]
