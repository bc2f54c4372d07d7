"""What inference costs: time, file and memory of one structure in several variants, one image at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from surge_mm.analysis.inference_subjects import (
    FLOAT,
    FROM_SIGNS,
    INT8,
    PACKED,
    VARIANTS,
    Setting,
    Subject,
    run_built,
)
from surge_mm.analysis.peak_memory import peak_memory
from surge_mm.analysis.plots import BLUE, ORANGE, SKY, VERMILION, save
from surge_mm.analysis.training_cost import interleaved_times, ratio

IN_A_ROW = {'layer': 20, 'backbone': 3, 'detector': 3}
"""Images of a turn, timed as one: a layer within a network does not begin with cold caches."""
COLOURS = {FLOAT: ORANGE, INT8: VERMILION, PACKED: BLUE, FROM_SIGNS: SKY}


@dataclass(frozen=True)
class Row:
    """The costs of one variant.

    Attributes:
        name (str): Of the structure.
        variant (str): Its variant.
        milliseconds (dict[int, float]): The median of an image, by the number of threads.
        speed (dict[int, float]): How many times as fast as float, by the number of threads.
        file_MB (float): 10^6 bytes of parameters.
        peak_MB (float): Most memory of a process that runs it on one thread once it is built, with Python, PyTorch and,
            where it is packed, Numba.
        all_milliseconds (dict[int, list[float]]): The mean of each turn.
    """

    name: str
    variant: str
    milliseconds: dict[int, float]
    speed: dict[int, float]
    file_MB: float  # noqa: N815  the unit
    peak_MB: float  # noqa: N815
    all_milliseconds: dict[int, list[float]]

    def gain(self) -> float | None:
        """How many times as fast with the most threads as with the fewest; None of one number."""
        fewest, most = min(self.milliseconds), max(self.milliseconds)
        return None if fewest == most else self.milliseconds[fewest] / self.milliseconds[most]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), 'gain': self.gain()}


def measure(
    setting: Setting,
    threads: Sequence[int],
    rounds: int,
    warmup: int,
    track: Callable[[Iterable[Any], str], Iterable[Any]],
) -> list[Row]:
    """A row for each variant of one structure.

    A few images of each variant in turn, so that a busy machine is busy for all of them; medians of turns.

    Args:
        setting: The structure.
        threads: The numbers of threads to try. PyTorch's number is as before afterwards.
        rounds, warmup: Measured turns of each variant, and turns before them.
        track: Shows the progress of a loop, as :func:`rich.progress.track`.
    """
    subjects = {variant: Subject(variant, setting) for variant in VARIANTS[setting.what]}
    before, in_a_row = torch.get_num_threads(), IN_A_ROW[setting.what]
    times: dict[int, dict[str, list[float]]] = {}
    try:
        for count in track(threads, setting.name):
            torch.set_num_threads(count)
            steps = {variant: partial(_turn, one, in_a_row) for variant, one in subjects.items()}
            turns = interleaved_times(steps, rounds, warmup)
            times[count] = {name: [t / in_a_row for t in own] for name, own in turns.items()}
    finally:
        torch.set_num_threads(before)
    rows = []
    for variant, subject in subjects.items():
        rows.append(
            Row(
                name=setting.name,
                variant=variant,
                milliseconds={n: 1e3 * median(t[variant]) for n, t in times.items()},
                speed={n: 1 / ratio(t, variant, FLOAT) for n, t in times.items()},
                file_MB=subject.bytes / 1e6,
                peak_MB=peak_memory(run_built, variant, setting),
                all_milliseconds={n: [1e3 * one for one in t[variant]] for n, t in times.items()},
            )
        )
    return rows


def _turn(subject: Subject, images: int) -> None:
    for _ in range(images):
        subject.run()


def plot_rows(rows: Sequence[Row], out: str | os.PathLike) -> Path:
    """Milliseconds of each variant, a panel for each number of threads; each bar with its speed against float."""
    names = list(dict.fromkeys(row.name for row in rows))
    variants = list(dict.fromkeys(row.variant for row in rows))
    threads = list(rows[0].milliseconds)
    size = (max(5, 2.1 * len(names) + 1.5), 2.8 * len(threads))
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(threads), 1, squeeze=False)[:, 0]
    width = 0.85 / len(variants)
    for ax, count in zip(axes, threads, strict=True):
        for i, variant in enumerate(variants):
            own = [row for row in rows if row.variant == variant]
            places = [names.index(row.name) + (i - (len(variants) - 1) / 2) * width for row in own]
            heights = [row.milliseconds[count] for row in own]
            ax.bar(places, heights, 0.92 * width, color=COLOURS[variant], label=variant)
            for place, height, row in zip(places, heights, own, strict=True):
                text = '' if variant == FLOAT else f'{row.speed[count]:.1f}×'
                ax.text(place, height, text, ha='center', va='bottom', fontsize=8)
        ax.set_xticks(range(len(names)), names, fontsize=8)
        ax.set_title(f'{count} thread{"s" if count > 1 else ""}', fontsize=10)
        ax.spines[['top', 'right']].set_visible(False)
        ax.grid(axis='y', alpha=0.3)
        ax.set_axisbelow(True)
        ax.set_ylabel('ms an image')
    axes[0].legend(fontsize=8, frameon=False, ncols=len(variants))
    return save(figure, out)
