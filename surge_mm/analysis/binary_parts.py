"""The number of binary layers in each part of a model, for the log."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from surge_mm.layers import BinaryLayer

SHOWN = 10


def describe_binary_parts(model: nn.Module) -> list[str]:
    """Return lines on the convolutions and linear layers of each part of a model: how many are binary, and which not.

    Args:
        model (nn.Module): the model.

    Returns:
        list[str]: a line with totals, and one for each part, with the names of up to ten layers that stay in full
        precision beside binary ones.
    """
    parts: dict[str, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            part, _, rest = name.partition('.')
            parts[part].append((rest or part, module))
    layers: list[Any] = [module for inside in parts.values() for _, module in inside]
    binary = [layer for layer in layers if isinstance(layer, BinaryLayer)]
    weights = sum(layer.weight.numel() for layer in layers)
    of_binary = sum(layer.weight.numel() for layer in binary)
    lines = [
        f'{len(binary)} of {len(layers)} convolutions and linear layers are binary, with {of_binary:,} of {weights:,} '
        'weights (tools/get_ops.py prints the rule of each layer)'
    ]
    for part, inside in parts.items():
        kept = [name for name, module in inside if not isinstance(module, BinaryLayer)]
        named = ', '.join(kept[:SHOWN]) + (
            f', and {len(kept) - SHOWN} more' if len(kept) > SHOWN else ''
        )
        full = f'; in full precision: {named}' if 0 < len(kept) < len(inside) else ''
        lines.append(f'  {part}: {len(inside) - len(kept)} of {len(inside)}{full}')
    return lines
