"""Comparison of variants trained with several seeds: one table in four formats, one picture."""

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from surge_mm.analysis.log import curve, read_log
from surge_mm.analysis.paired import interval, sign_flip_p
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
    each other in time. Differences to the baseline are paired by seed too.

    Args:
        runs (dict[str, dict[int, Run]]): run of each variant and seed.
        metric (str): key of the metric in the log.
        baseline (str): variant to compare with, whose time per step is the unit.

    Returns:
        list[Row]: one row for each variant, in the order of ``runs``.
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
            Row(
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


def _in_percent(metric: str) -> bool:
    return metric.startswith(('accuracy', 'glue')) and metric not in ('glue/nll', 'glue/mse')


def _cells(rows: Sequence[Row], baseline: str) -> list[list[str]]:
    """Return the header and the rows of the table as text; an unknown number is an empty cell."""
    metric = METRICS[rows[0].metric][0] if rows[0].metric in METRICS else rows[0].metric
    digits = 2 if _in_percent(rows[0].metric) else 3

    def text(value: float, form: str = f'.{digits}f') -> str:
        return '' if math.isnan(value) else format(value, form)

    def between(ends: tuple[float, float], form: str = f'.{digits}f') -> str:
        return '' if math.isnan(ends[0]) else f'{ends[0]:{form}} to {ends[1]:{form}}'

    header = [
        *('variant', f'{metric}, mean ± std', '95 % interval', 'each seed', 'last loss'),
        *(f'time per step / {baseline}', f'minus {baseline}', '95 % interval', 'p'),
    ]
    table = [header]
    for row in rows:
        each = zip(row.seeds, row.values, strict=True)
        table.append(
            [
                row.name + (' (baseline)' if row.name == baseline else ''),
                text(row.mean) + ('' if math.isnan(row.std) else f' ± {text(row.std)}'),
                between(row.interval),
                ', '.join(f'{text(value)} ({seed})' for seed, value in each),
                text(row.loss, '.3f'),
                text(row.relative_time, '.2f') or 'not known',
                text(row.difference, f'+.{digits}f'),
                between(row.difference_interval, f'+.{digits}f'),
                text(row.p, '.3f'),
            ]
        )
    return table


def markdown(rows: Sequence[Row], baseline: str) -> str:
    """Format rows as a Markdown table.

    Args:
        rows (Sequence[Row]): rows of one metric, at least one.
        baseline (str): variant to compare with.

    Returns:
        str: the table, with a header that names the metric, and a line about the test.
    """
    header, *body = _cells(rows, baseline)
    lines = [header, ['---'] * len(header), *body]
    table = ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)
    return f'{table}\n{_note(baseline)}\n'


def _note(baseline: str) -> str:
    return (
        f'Intervals are those of Student, over the seeds. p is that of the two-sided sign-flip test of the differences '
        f'to {baseline}, paired by seed. With n seeds it is at least 2 / 2^n: 0.25 for 3, 0.031 for 6. Below 3 seeds '
        'there is neither. The metric is that of the last evaluation. Other programs and runs on the same machine '
        'change the time per step.'
    )


def latex(rows: Sequence[Row], baseline: str) -> str:
    """Format rows as a table of LaTeX for the package booktabs, with the number of seeds in place of each.

    Args:
        rows (Sequence[Row]): rows of one metric, at least one.
        baseline (str): variant to compare with.

    Returns:
        str: the environment ``tabular``, below comments that explain intervals and p.
    """
    counts = ['seeds', *(str(len(row.seeds)) for row in rows)]
    kept = [
        [*cells[:3], count, *cells[5:]]
        for cells, count in zip(_cells(rows, baseline), counts, strict=True)
    ]
    header, *body = [' & '.join(map(_escape, cells)) + r' \\' for cells in kept]
    columns = 'l' + 'r' * (len(kept[0]) - 1)
    lines = [
        *(f'% {sentence}.' for sentence in _note(baseline).removesuffix('.').split('. ')),
        rf'\begin{{tabular}}{{{columns}}}',
        r'\toprule',
        header,
        r'\midrule',
        *body,
        r'\bottomrule',
    ]
    return '\n'.join([*lines, r'\end{tabular}']) + '\n'


def _escape(text: str) -> str:
    text = re.sub(r'([&%$#_{}])', r'\\\1', text)
    text = re.sub(r'(?<![\w.])-(?=\d)', '$-$', text)
    return text.replace('±', r'$\pm$').replace('^', r'\^{}')


def as_csv(rows: Sequence[Row]) -> str:
    """Format rows as CSV, with a column for each seed and empty cells for unknown numbers."""
    seeds = sorted({seed for row in rows for seed in row.seeds})
    ends = [
        f'{name}_{end}' for name in ('interval', 'difference_interval') for end in ('low', 'high')
    ]
    names = [
        'name',
        'metric',
        'mean',
        'std',
        *ends[:2],
        'loss',
        'relative_time',
        'difference',
        *ends[2:],
        'p',
    ]
    file = io.StringIO()
    writer = csv.DictWriter(
        file, [*names, *(f'seed_{seed}' for seed in seeds)], lineterminator='\n'
    )
    writer.writeheader()
    for row in rows:
        cells = {name: getattr(row, name) for name in names if name not in ends}
        cells |= dict(zip(ends, (*row.interval, *row.difference_interval), strict=True))
        cells |= {f'seed_{seed}': v for seed, v in zip(row.seeds, row.values, strict=True)}
        writer.writerow({name: '' if value != value else value for name, value in cells.items()})
    return file.getvalue()


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
    unit = ' (%)' if _in_percent(metric) else ''
    ax.set(xlabel='epoch', ylabel=label + unit)
    finish(ax)
    if many:
        ax.set_title('mean over the seeds; band: least to largest', fontsize=9)
    return save(figure, out)


def as_json(rows: Sequence[Row]) -> str:
    """Format rows as JSON, with null for unknown numbers."""

    def known(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [known(inner) for inner in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    content = [{key: known(value) for key, value in vars(row).items()} for row in rows]
    return json.dumps(content, indent=2, allow_nan=False) + '\n'
