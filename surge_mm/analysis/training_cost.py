"""What a training step costs: time, and bytes kept for the backward pass."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from torch import Tensor, nn

from surge_mm.analysis.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, save

Step = Callable[[], None]
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)


class SavedBytes(NamedTuple):
    """Bytes of the distinct storages that a forward pass keeps for backward, parameters not counted.

    Attributes:
        binary: Those that the layers asked for keep.
        whole: Those of the whole network.
    """

    binary: int
    whole: int


def saved_bytes(
    model: nn.Module, forward: Callable[[], Tensor], layers: Collection[str]
) -> SavedBytes:
    """Run ``forward`` once and count what it keeps; ``layers`` are dotted names in ``model``."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    binary: dict[int, int] = {}
    whole: dict[int, int] = {}
    kept: list[Tensor] = []  # alive, so that no two of them have one address
    depth = 0

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept.append(tensor)
            for counted in [whole, binary] if depth else [whole]:
                counted[storage.data_ptr()] = storage.nbytes()
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
    return SavedBytes(sum(binary.values()), sum(whole.values()))


def interleaved_times(
    steps: Mapping[str, Step], rounds: int, warmup: int, after: Step = lambda: None
) -> dict[str, list[float]]:
    """Seconds of each step, one of each in turn, so that a busy machine is busy for all of them.

    ``after`` is called within the timed part (to wait for a device, for instance).
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(warmup + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            after()
            if i >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Mapping[str, Sequence[float]], name: str, baseline: str) -> float:
    """The median step of ``name`` over that of ``baseline``."""
    return median(times[name]) / median(times[baseline])


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """p of the least-squares fit ``cost ~ size^p``.

    Raises:
        ValueError: fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ValueError(f'sizes={list(sizes)!r} must be at least two')
    logs = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    along = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return along / sum((x - mean_x) ** 2 for x, _ in logs)


class Growth(NamedTuple):
    """How the costs of variants grow along one axis.

    Attributes:
        axis: What grows.
        sizes: Its values.
        seconds: By variant, for each size.
        bytes: Saved for backward, by variant, for each size.
    """

    axis: str
    sizes: list[int]
    seconds: dict[str, list[float]]
    bytes: dict[str, list[float]]


def plot_growth(growths: Sequence[Growth], out: str | os.PathLike) -> Path:
    """Log-log, time above memory, a column for each axis, with the fitted exponents in the legend."""
    figure = Figure(figsize=(4.2 * len(growths), 7), layout='constrained')
    rows = figure.subplots(2, len(growths), squeeze=False)
    for column, growth in enumerate(growths):
        panels = (
            (growth.seconds, 1.0, 'seconds a step'),
            (growth.bytes, 1e-6, 'MB saved for backward'),
        )
        for row, (curves, factor, label) in enumerate(panels):
            ax = rows[row][column]
            for i, (name, values) in enumerate(curves.items()):
                said = f'{name}, exponent {exponent(growth.sizes, values):.2f}'
                scaled = [factor * value for value in values]
                # lines that lie upon each other stay visible: the later, the thinner
                width = 1 + 1.5 * (len(curves) - 1 - i)
                colour = COLOURS[i % len(COLOURS)]
                ax.plot(growth.sizes, scaled, 'o-', color=colour, linewidth=width, label=said)
            ax.set(xscale='log', yscale='log', xlabel=growth.axis, ylabel=label)
            ax.set_xticks(growth.sizes, [f'{size:,}' for size in growth.sizes])
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
            ax.minorticks_off()
            ax.grid(alpha=0.3)
            ax.legend(fontsize=8)
    return save(figure, out)
