"""Comparison of variants trained with several seeds: one table, one picture."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from surge_mm.analysis.log import curve, read_log
from surge_mm.analysis.plots import METRICS, finish, save
from surge_mm.utils.errors import UsageError


@dataclass(frozen=True)
class Run:
    """Evaluations and costs of one training run.

    Attributes:
        steps (list[float]): epochs of the evaluations, or iterations under an iteration-based loop.
        values (list[float]): metric at these steps.
        loss (float): mean training loss over the last tenth of the log.
        seconds (float): median seconds of an iteration without the wait for data. The first tenth is left out.
    """

    steps: list[float]
    values: list[float]
    loss: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """Summary of one variant over its seeds.

    Attributes:
        name (str): variant.
        seeds (list[int]): seeds of its runs.
        metric (str): key of the metric in the log.
        values (list[float]): last value of the metric for each seed.
        mean (float): mean of ``values``.
        std (float): sample standard deviation of ``values``, nan for a single seed.
        loss (float): mean of the last training losses.
        relative_time (float): time per step divided by that of the baseline, nan without a common seed.
    """

    name: str
    seeds: list[int]
    metric: str
    values: list[float]
    mean: float
    std: float
    loss: float
    relative_time: float


def read_run(work_dir: Path, metric: str | None = None) -> tuple[str, Run]:
    """Read a finished run from its logs.

    Args:
        work_dir (Path): work dir of the run.
        metric (str, optional): key of the log. Defaults to the first of mAP, VOC mAP and top-1 that was logged.

    Returns:
        tuple[str, Run]: the metric and the run.

    Raises:
        UsageError: if the log has no such metric.
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


def summarize(runs: dict[str, dict[int, Run]], metric: str, baseline: str) -> list[Row]:
    """Summarize the runs of each variant over its seeds.

    The relative time of a variant is the mean ratio to the run of the baseline with the same seed. Such runs follow
    each other in time.

    Args:
        runs (dict[str, dict[int, Run]]): run of each variant and seed.
        metric (str): key of the metric in the log.
        baseline (str): variant whose time per step is the unit.

    Returns:
        list[Row]: one row for each variant, in the order of ``runs``.
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
    """Format rows as a Markdown table.

    Args:
        rows (Sequence[Row]): rows of one metric, at least one.
        baseline (str): variant whose time per step is the unit.

    Returns:
        str: the table, with a header that names the metric.
    """
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
    """Draw the metric of each variant over training: the mean over seeds and their range.

    Args:
        runs (dict[str, dict[int, Run]]): run of each variant and seed.
        metric (str): key of the metric in the log.
        out (Path): PNG file to write.

    Returns:
        Path: ``out``.
    """
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    ax = figure.subplots()
    for name, by_seed in runs.items():
        curves = [dict(zip(run.steps, run.values, strict=True)) for run in by_seed.values()]
        shared = sorted(set.intersection(*map(set, curves)))
        table = np.array([[values[step] for step in shared] for values in curves])
        (line,) = ax.plot(shared, table.mean(0), label=f'{name} (seeds: {len(by_seed)})')
        color = line.get_color()
        ax.fill_between(shared, table.min(0), table.max(0), color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel='epoch', ylabel=METRICS[metric][0] if metric in METRICS else metric)
    finish(ax)
    return save(figure, out)


def as_json(rows: Sequence[Row]) -> str:
    """Format rows as JSON."""
    return json.dumps([vars(row) for row in rows], indent=2) + '\n'
