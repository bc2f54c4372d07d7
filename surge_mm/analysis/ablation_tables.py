"""Tables of a comparison of variants: Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from surge_mm.analysis.ablation import Summary, in_percent
from surge_mm.analysis.plots import METRICS


def _cells(rows: Sequence[Summary], baseline: str) -> list[list[str]]:
    """Return the header and the rows of the table as text; an unknown number is an empty cell."""
    metric = METRICS[rows[0].metric][0] if rows[0].metric in METRICS else rows[0].metric
    digits = 2 if in_percent(rows[0].metric) else 3

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


def markdown(rows: Sequence[Summary], baseline: str) -> str:
    """Format rows as a Markdown table.

    Args:
        rows (Sequence[Summary]): rows of one metric, at least one.
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


def latex(rows: Sequence[Summary], baseline: str) -> str:
    """Format rows as a table of LaTeX for the package booktabs, with the number of seeds in place of each.

    Args:
        rows (Sequence[Summary]): rows of one metric, at least one.
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


def as_csv(rows: Sequence[Summary]) -> str:
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


def as_json(rows: Sequence[Summary]) -> str:
    """Format rows as JSON, with null for unknown numbers."""

    def known(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [known(inner) for inner in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    content = [{key: known(value) for key, value in vars(row).items()} for row in rows]
    return json.dumps(content, indent=2, allow_nan=False) + '\n'
