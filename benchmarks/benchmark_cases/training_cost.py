"""Cost of a training step: bytes saved for the backward pass, and how time and bytes grow with its size."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from torch import Tensor, nn

from surge_mm.analysis.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, save

COLORS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


class SavedBytes(NamedTuple):
    """Bytes of the distinct storages that a forward pass saves for backward, without parameters.

    Attributes:
        layers (int): bytes saved by the chosen layers.
        model (int): bytes saved by the whole model.
    """

    layers: int
    model: int


def saved_bytes(
    model: nn.Module, forward: Callable[[], Tensor], layers: Collection[str]
) -> SavedBytes:
    """Run a forward pass and count the bytes that it saves for backward.

    Args:
        model (nn.Module): the model that ``forward`` runs.
        forward (Callable): the forward pass; called once, without arguments.
        layers (Collection[str]): names of the sub-modules of ``model`` to count apart.

    Returns:
        SavedBytes: the bytes of the chosen layers and of the whole model.
    """
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    of_layers: dict[int, int] = {}
    of_model: dict[int, int] = {}
    alive: list[Tensor] = []  # keeps each tensor alive, so that no two have the same address
    depth = 0

    def pack(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # an output that its own node keeps would never be freed
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            alive.append(tensor)
            of_model[storage.data_ptr()] = storage.nbytes()
            if depth:
                of_layers[storage.data_ptr()] = storage.nbytes()
        return tensor

    def enter(*_: object) -> None:
        nonlocal depth
        depth += 1

    def leave(*_: object) -> None:
        nonlocal depth
        depth -= 1

    handles = []
    for name in layers:
        layer = model.get_submodule(name)
        handles += [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return SavedBytes(sum(of_layers.values()), sum(of_model.values()))


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit ``cost ~ size^p`` by least squares of the logarithms and return p.

    Args:
        sizes (Sequence[float]): positive sizes, at least two.
        costs (Sequence[float]): the positive cost of each size.

    Returns:
        float: p.

    Raises:
        ValueError: if there are fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f'sizes must have at least two values, got {list(sizes)!r}')
    logs = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return covariance / sum((x - mean_x) ** 2 for x, _ in logs)


class Growth(NamedTuple):
    """Costs of several variants as one quantity grows.

    Attributes:
        axis (str): the quantity that grows.
        sizes (list[int]): its values.
        seconds (dict[str, list[float]]): seconds of a step for each size, by variant.
        bytes (dict[str, list[float]]): bytes saved for backward for each size, by variant.
    """

    axis: str
    sizes: list[int]
    seconds: dict[str, list[float]]
    bytes: dict[str, list[float]]


def plot_growth(growths: Sequence[Growth], out: str | os.PathLike) -> Path:
    """Draw time and saved bytes on logarithmic axes, with the fitted exponents in the legend.

    Args:
        growths (Sequence[Growth]): one for each column of the figure.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
    figure = Figure(figsize=(4.2 * len(growths), 7), layout='constrained')
    rows = figure.subplots(2, len(growths), squeeze=False)
    for column, growth in enumerate(growths):
        panels = (
            (growth.seconds, 1.0, 'seconds a step'),
            (growth.bytes, 1e-6, 'MB saved for backward'),
        )
        for row, (curves, factor, ylabel) in enumerate(panels):
            ax = rows[row][column]
            for i, (name, values) in enumerate(curves.items()):
                label = f'{name}, exponent {growth_exponent(growth.sizes, values):.2f}'
                scaled = [factor * value for value in values]
                # each line is thinner than the ones before, so that equal curves stay visible
                width = 1 + 1.5 * (len(curves) - 1 - i)
                color = COLORS[i % len(COLORS)]
                ax.plot(growth.sizes, scaled, 'o-', color=color, linewidth=width, label=label)
            ax.set(xscale='log', yscale='log', xlabel=growth.axis, ylabel=ylabel)
            ax.set_xticks(growth.sizes, [f'{size:,}' for size in growth.sizes])
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
            ax.minorticks_off()
            ax.grid(alpha=0.3)
            ax.legend(fontsize=8)
    return save(figure, out)
