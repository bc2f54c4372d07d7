"""Comparison of variants trained with several seeds: one table, one picture."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from surge_mm.analysis.log import curve, read_log
from surge_mm.analysis.plots import METRICS, save
from surge_mm.utils.errors import UsageError


@dataclass(frozen=True)
class Run:
    """One training run, as its log tells.

    Attributes:
        steps (list[float]): When it was evaluated: epochs, or iterations under an iteration-based loop.
        values (list[float]): The metric then.
        loss (float): Mean training loss over the last tenth of the log.
        seconds (float): Median seconds of an iteration without the wait for data; the first tenth is left out.
    """

    steps: list[float]
    values: list[float]
    loss: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One variant: means and sample standard deviations over seeds (nan for a single seed)."""

    name: str
    seeds: list[int]
    metric: str
    values: list[float]
    mean: float
    std: float
    loss: float
    relative_time: float


def read_run(work_dir: Path, metric: str | None = None) -> tuple[str, Run]:
    """Read a finished run.

    Args:
        work_dir (Path): What ``tools/train.py --work-dir`` was given.
        metric (str, optional): Key of the log. Defaults to the first of mAP, VOC mAP and top-1 that is there.

    Returns:
        tuple: the metric and the run.

    Raises:
        UsageError: the log has no such metric.
    """
    train, val = read_log(sorted(work_dir.glob('*/vis_data/scalars.json')))
    logged = {key for line in val for key in line}
    known = [metric] if metric else list(METRICS)
    found = [key for key in known if key in logged]
    if not found:
        raise UsageError(
            f'{work_dir}: the log has no metric {" or ".join(known)}; it has {", ".join(sorted(logged)) or "none"}'
        )
    steps, values = curve(val, found[0])
    tenth = max(len(train) // 10, 1)
    times = [line['time'] - line.get('data_time', 0) for line in train[tenth:] or train]
    loss = statistics.mean(line['loss'] for line in train[-tenth:])
    return found[0], Run(steps, values, loss, statistics.median(times))


def summarise(runs: dict[str, dict[int, Run]], metric: str, baseline: str) -> list[Row]:
    """One row a variant, in the order of ``runs``.

    The relative time of a variant is the mean over seeds of its ratio to the baseline's run of the same seed, since
    such runs were made after one another.
    """
    rows = []
    for name, by_seed in runs.items():
        values = [run.values[-1] for run in by_seed.values()]
        ratios = [
            run.seconds / runs[baseline][seed].seconds
            for seed, run in by_seed.items()
            if seed in runs.get(baseline, {})
        ]
        rows.append(
            Row(
                name=name,
                seeds=list(by_seed),
                metric=metric,
                values=values,
                mean=statistics.mean(values),
                std=statistics.stdev(values) if len(values) > 1 else float('nan'),
                loss=statistics.mean(run.loss for run in by_seed.values()),
                relative_time=statistics.mean(ratios) if ratios else float('nan'),
            )
        )
    return rows


def markdown(rows: Sequence[Row], baseline: str) -> str:
    """The rows as a table."""
    metric = METRICS[rows[0].metric][0] if rows[0].metric in METRICS else rows[0].metric
    lines = [
        f'| variant | {metric}, mean ± std | each seed | last loss | time per step / {baseline} |',
        '| --- | --- | --- | --- | --- |',
    ]
    digits = 2 if rows[0].metric.startswith('accuracy') else 3
    for row in rows:
        each = ', '.join(
            f'{value:.{digits}f} ({seed})'
            for seed, value in zip(row.seeds, row.values, strict=True)
        )
        spread = '' if np.isnan(row.std) else f' ± {row.std:.{digits}f}'
        time = 'not known' if np.isnan(row.relative_time) else f'{row.relative_time:.2f}'
        lines.append(
            f'| {row.name} | {row.mean:.{digits}f}{spread} | {each} | {row.loss:.3f} | {time} |'
        )
    return '\n'.join(lines) + '\n'


def plot(runs: dict[str, dict[int, Run]], metric: str, out: Path) -> Path:
    """Draw the metric of each variant over training: the mean of its seeds, and their range."""
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    ax = figure.subplots()
    colours = matplotlib.colormaps['tab10' if len(runs) <= 10 else 'tab20'].colors  # type: ignore[attr-defined]
    for (name, by_seed), colour in zip(runs.items(), colours * len(runs), strict=False):
        shared = sorted(set.intersection(*(set(run.steps) for run in by_seed.values())))
        table = np.array(
            [
                [dict(zip(run.steps, run.values, strict=True))[step] for step in shared]
                for run in by_seed.values()
            ]
        )
        plural = 's' if len(by_seed) > 1 else ''
        label = f'{name} ({len(by_seed)} seed{plural})'
        ax.plot(shared, table.mean(0), color=colour, label=label)
        ax.fill_between(shared, table.min(0), table.max(0), color=colour, alpha=0.2, linewidth=0)
    ax.set(xlabel='epoch', ylabel=METRICS[metric][0] if metric in METRICS else metric)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return save(figure, out)


def as_json(rows: Sequence[Row]) -> str:
    """The rows for other programs."""
    return json.dumps([vars(row) for row in rows], indent=2) + '\n'
