"""Cost of inference: time of an image, size of the file and memory, for each variant of one network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmark_cases.inference import (
    FLOAT,
    FROM_SIGNS,
    INT8,
    PACKED,
    REAL_INT8,
    RUNS_BEFORE,
    VARIANTS,
    BenchmarkCase,
    Workload,
    run_for_peak_memory,
)
from benchmark_cases.peak_memory import peak_memory
from benchmark_cases.rivals import BINARY, RivalCase, rival_names
from surge_mm.analysis.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, save
from surge_mm.analysis.timing import interleaved_times, median_ratio

RUNS_PER_TURN = {'layer': 20, 'chain': 5, 'backbone': 3, 'detector': 3}
"""Images that are timed as one: a layer inside a network starts with warm caches."""
COLORS = {
    FLOAT: ORANGE,
    INT8: VERMILION,
    PACKED: BLUE,
    FROM_SIGNS: SKY,
    REAL_INT8: SKY,
    'OpenVINO INT8': GREEN,
    'ONNX Runtime INT8': PURPLE,
    BINARY: VERMILION,
}


@dataclass(frozen=True)
class Row:
    """The costs of one variant.

    Attributes:
        name (str): name of the workload.
        variant (str): the variant.
        milliseconds (dict[int, float]): median time of an image in ms, by number of threads.
        speed (dict[int, float]): speed relative to float, by number of threads.
        file_MB (float, optional): size of the parameters in MB (10^6 bytes). None in another engine.
        peak_MB (float, optional): peak memory in MB of a process that runs the variant on one thread, Python, PyTorch
            and, for packed variants, Numba included; building and packing are left out. None in another engine.
        all_milliseconds (dict[int, list[float]]): mean time of an image in ms in each turn, by number of threads.
    """

    name: str
    variant: str
    milliseconds: dict[int, float]
    speed: dict[int, float]
    file_MB: float | None  # noqa: N815  the unit
    peak_MB: float | None  # noqa: N815
    all_milliseconds: dict[int, list[float]]

    def gain(self) -> float | None:
        """Return the speed with the most threads relative to the fewest; None if there is one number of threads."""
        fewest, most = min(self.milliseconds), max(self.milliseconds)
        return None if fewest == most else self.milliseconds[fewest] / self.milliseconds[most]

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return {**asdict(self), 'gain': self.gain()}


def measure(
    workload: Workload,
    threads: Sequence[int],
    rounds: int,
    warmup: int,
    track: Callable[[Iterable[Any], str], Iterable[Any]],
    engines: Sequence[str] = (),
) -> list[Row]:
    """Measure every variant of a workload.

    The variants take turns of a few images each, so that the load of other programs affects all of them alike. With one
    thread, the CPU time is measured, on which that load has less influence; with more, the time of the clock.

    Args:
        workload (Workload): the network and the size of the image.
        threads (Sequence[int]): the numbers of threads to measure. PyTorch's number is restored afterwards.
        rounds (int): measured turns of each variant.
        warmup (int): turns before them, which are not measured.
        track (Callable): shows the progress of a loop, as :func:`rich.progress.track`.
        engines (Sequence[str]): other engines to measure too, such as ``openvino``. Defaults to none.

    Returns:
        list[Row]: one row for each variant.
    """
    cases: dict[str, Any] = {
        **{variant: BenchmarkCase(variant, workload) for variant in VARIANTS[workload.what]},
        **{name: RivalCase(name, workload) for name in rival_names(workload.what, list(engines))},
    }
    threads_before, runs = torch.get_num_threads(), RUNS_PER_TURN[workload.what]
    times: dict[int, dict[str, list[float]]] = {}
    try:
        for count in track(threads, workload.name):
            torch.set_num_threads(count)
            turns = {variant: partial(_turn, case, runs) for variant, case in cases.items()}
            clock = time.process_time if count == 1 else time.perf_counter
            # for a number of threads, engines compile at the first call, and packed networks are recorded at the second
            seconds = interleaved_times(turns, rounds, warmup + RUNS_BEFORE, clock=clock)
            times[count] = {name: [t / runs for t in own] for name, own in seconds.items()}
    finally:
        torch.set_num_threads(threads_before)
    return [
        Row(
            name=workload.name,
            variant=variant,
            milliseconds={n: 1e3 * median(t[variant]) for n, t in times.items()},
            speed={n: 1 / median_ratio(t, variant, FLOAT) for n, t in times.items()},
            file_MB=None if case.bytes is None else case.bytes / 1e6,
            peak_MB=None
            if case.bytes is None
            else peak_memory(run_for_peak_memory, variant, workload),
            all_milliseconds={n: [1e3 * s for s in t[variant]] for n, t in times.items()},
        )
        for variant, case in cases.items()
    ]


def _turn(case: BenchmarkCase | RivalCase, runs: int) -> None:
    for _ in range(runs):
        case.run()


def plot_rows(rows: Sequence[Row], out: str | os.PathLike) -> Path:
    """Draw the milliseconds of each variant as bars labeled with the speed relative to float.

    Args:
        rows (Sequence[Row]): as :func:`measure` returns them, of one or several workloads.
        out (str): the PNG file to write, with a panel for each number of threads. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
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
            ax.bar(places, heights, 0.92 * width, color=COLORS[variant], label=variant)
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
