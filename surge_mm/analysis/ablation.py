"""Comparison of variants that were trained with several seeds: the rows of a table, and a picture."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from surge_mm.analysis.paired import interval, sign_flip_p
from surge_mm.analysis.plots import METRICS, finish, save
from surge_mm.analysis.scalars import curve, read_scalars
from surge_mm.utils.errors import LaunchError, UsageError

COCO = 'coco/'
"""Prefix of the metrics of MMDetection's ``CocoMetric``."""
ERRORS = ('glue/nll', 'glue/mse')
"""Metrics of which a lower value is better."""


@dataclass(frozen=True)
class Run:
    """Evaluations and costs of one training run.

    Attributes:
        steps (list[float]): epochs of the evaluations, or iterations under an iteration-based loop.
        values (list[float]): metric at these steps.
        loss (float): mean training loss over the last tenth of the log.
        seconds (float): median seconds of an iteration without the wait for data. The first tenth is left out.
        by_epoch (bool): whether the steps are epochs. Defaults to True.
    """

    steps: list[float]
    values: list[float]
    loss: float
    seconds: float
    by_epoch: bool = True


@dataclass(frozen=True)
class Summary:
    """Summary of one variant over its seeds.

    Attributes:
        name (str): variant.
        seeds (list[int]): seeds of its runs.
        metric (str): key of the metric in the log.
        values (list[float]): last value of the metric for each seed.
        mean (float): mean of ``values``.
        std (float): sample standard deviation of ``values``, nan for a single seed.
        interval (tuple[float, float]): 95 % interval of the mean, nan for less than three seeds and for equal values.
        loss (float): mean of the last training losses.
        relative_time (float): time per step divided by that of the baseline, nan without a common seed.
        difference (float): mean of the value minus that of the baseline with the same seed, nan without a common seed.
        difference_interval (tuple[float, float]): 95 % interval of ``difference``, nan with less than three common
            seeds and for equal differences.
        p (float): that of the sign-flip test of the differences, nan with less than three common seeds.
    """

    name: str
    seeds: list[int]
    metric: str
    values: list[float]
    mean: float
    std: float
    interval: tuple[float, float]
    loss: float
    relative_time: float
    difference: float
    difference_interval: tuple[float, float]
    p: float


def read_run(work_dir: Path, metric: str | None = None) -> tuple[str, Run]:
    """Read a finished run from its logs.

    Args:
        work_dir (Path): work dir of the run.
        metric (str, optional): key of the log. Defaults to the first of mAP, VOC mAP, top-1 and the metrics of GLUE
            that was logged.

    A detector that finds nothing has no metric in its log under ``CocoMetric``: its average precision is 0.

    Returns:
        tuple[str, Run]: the metric and the run.

    Raises:
        UsageError: if the log has no such metric.
    """
    train, val = read_scalars(sorted(work_dir.glob('*/vis_data/scalars.json')))
    logged = {key for line in val for key in line}
    known = [metric] if metric else list(METRICS)
    found = [key for key in known if key in logged]
    if metric and val and metric.startswith(COCO):
        found = [metric]
    if not found:
        raise UsageError(
            f'{work_dir}: the log has no metric {" or ".join(known)}; it has {", ".join(sorted(logged)) or "none"}'
        )
    if found[0].startswith(COCO):
        val = [{found[0]: 0.0, **line} for line in val]
    steps, values = curve(val, found[0])
    tenth = max(len(train) // 10, 1)
    times = [line['time'] - line.get('data_time', 0) for line in train[tenth:] or train]
    loss = statistics.mean(line['loss'] for line in train[-tenth:])
    last_epoch = max(line.get('epoch', 0) for line in train)
    by_epoch = all(step <= last_epoch for step in steps)
    return found[0], Run(steps, values, loss, statistics.median(times), by_epoch)


def find_baseline(asked: str | None, names: Sequence[str]) -> str:
    """Return the baseline of the comparison.

    Args:
        asked (str, optional): variant to use, in upper or lower case. Defaults to that of STE, or to the first variant.
        names (Sequence[str]): all variants.

    Returns:
        str: one of ``names``.

    Raises:
        LaunchError: if there is no variant of that name.
    """
    if asked is None:
        return next((name for name in names if name.partition('_')[0] == 'ste'), names[0])
    found = [name for name in names if name == asked] or [
        name for name in names if name.lower() == asked.lower()
    ]
    if not found:
        raise LaunchError(f'--baseline must be one of {", ".join(names)}, got {asked!r}')
    return found[0]


def summarize(runs: dict[str, dict[int, Run]], metric: str, baseline: str) -> list[Summary]:
    """Summarize the runs of each variant over its seeds.

    The relative time of a variant is the mean ratio to the run of the baseline with the same seed. Such runs follow
    each other in time. Differences to the baseline are paired by seed too.

    Args:
        runs (dict[str, dict[int, Run]]): run of each variant and seed.
        metric (str): key of the metric in the log.
        baseline (str): variant to compare with, whose time per step is the unit.

    Returns:
        list[Summary]: one row for each variant, in the order of ``runs``.
    """
    rows = []
    for name, by_seed in runs.items():
        values = [run.values[-1] for run in by_seed.values()]
        pairs = [
            (run, runs[baseline][seed])
            for seed, run in by_seed.items()
            if seed in runs.get(baseline, {})
        ]
        ratios = [run.seconds / other.seconds for run, other in pairs]
        differences = [run.values[-1] - other.values[-1] for run, other in pairs]
        if name == baseline:
            differences = []
        rows.append(
            Summary(
                name=name,
                seeds=list(by_seed),
                metric=metric,
                values=values,
                mean=statistics.mean(values),
                std=statistics.stdev(values) if len(values) > 1 else math.nan,
                interval=interval(values),
                loss=statistics.mean(run.loss for run in by_seed.values()),
                relative_time=statistics.mean(ratios) if ratios else math.nan,
                difference=statistics.mean(differences) if differences else math.nan,
                difference_interval=interval(differences),
                p=sign_flip_p(differences),
            )
        )
    return rows


def in_percent(metric: str) -> bool:
    """Return whether a metric is a percentage."""
    return metric.startswith(('accuracy', 'glue')) and metric not in ERRORS


def plot(runs: dict[str, dict[int, Run]], metric: str, out: Path) -> Path:
    """Draw the metric of each variant over training: the mean over seeds, and a band from the least to the largest.

    Args:
        runs (dict[str, dict[int, Run]]): run of each variant and seed.
        metric (str): key of the metric in the log.
        out (Path): PNG file to write.

    Returns:
        Path: ``out``.
    """
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    ax = figure.subplots()
    many = any(len(by_seed) > 1 for by_seed in runs.values())
    for i, (name, by_seed) in enumerate(runs.items()):
        curves = [dict(zip(run.steps, run.values, strict=True)) for run in by_seed.values()]
        shared = sorted(set.intersection(*map(set, curves)))
        table = np.array([[values[step] for step in shared] for values in curves])
        style = ('-', '--', '-.', ':')[i % 4]
        label = f'{name} (seeds: {len(by_seed)})'
        (line,) = ax.plot(shared, table.mean(0), linestyle=style, marker='.', label=label)
        color = line.get_color()
        ax.fill_between(shared, table.min(0), table.max(0), color=color, alpha=0.2, linewidth=0)
    label = METRICS[metric][0] if metric in METRICS else metric
    unit = ' (%)' if in_percent(metric) else ''
    by_epoch = all(run.by_epoch for by_seed in runs.values() for run in by_seed.values())
    ax.set(xlabel='epoch' if by_epoch else 'iteration', ylabel=label + unit)
    finish(ax)
    if many:
        ax.set_title('mean over the seeds; band: least to largest', fontsize=9)
    return save(figure, out)
