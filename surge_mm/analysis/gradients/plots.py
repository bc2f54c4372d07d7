"""Plot of gradient reports: the quantities of each call of a layer, over training."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from surge_mm.analysis.plots import save

REPORT: dict[str, str] = {
    'lambda': 'scale λ of the branch',
    'cos': 'cos(g_b, g_a)',
    'weight_ratio': '‖W_a‖ / ‖W_b‖',
    'clipped': 'share of clipped activations',
    'growth': 'growth of the gradient',
    'noise': 'noise of half-batches',
    'g_b': 'true / predicted slope along g_b',
    'g_a': 'true / predicted slope along g_a',
    'best_eta': 'eta of the best direction',
}
"""Titles of the panels of a gradient report, by key of a call or direction of its probe."""


def plot_gradients(reports: Sequence[Mapping[str, Any]], out: str | os.PathLike) -> Path:
    """Draw the quantities of gradient reports over the calls of layers, and save one PNG.

    Each report is a line, from light to dark over training. Of more than six, six are drawn, spread evenly from the
    first to the last. Panels without a value are left out.

    Args:
        reports (Sequence[dict]): reports with ``iter`` and ``calls``, as :class:`surge_mm.GradientReportHook` writes.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
    drawn = np.unique(np.linspace(0, len(reports) - 1, 6).round().astype(int))
    tables = [
        {f'{row["layer"]} {row["call"] or ""}'.strip(): row for row in reports[index]['calls']}
        for index in drawn
    ]
    names = list(dict.fromkeys(name for table in tables for name in table))
    curves = {
        key: [[report_value(table.get(name, {}), key) for name in names] for table in tables]
        for key in REPORT
    }
    keys = [key for key in REPORT if not np.isnan(curves[key]).all()]
    figure = Figure(figsize=(2 + 2.4 * len(keys), 1.5 + 0.18 * len(names)), layout='constrained')
    axes = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    shades = colormaps['viridis_r'](np.linspace(0.15, 1, len(drawn)))
    for ax, key in zip(axes, keys, strict=True):
        for index, values, color in zip(drawn, curves[key], shades, strict=True):
            label = f'iteration {reports[index]["iter"]}'
            ax.plot(values, range(len(names)), color=color, marker='.', label=label)
        ax.set_title(REPORT[key], fontsize=9)
        ax.grid(alpha=0.3)
        ax.spines[['top', 'right']].set_visible(False)
        if key == 'growth':
            ax.set_xscale('log')
            low, high = ax.get_xlim()
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
            ax.xaxis.set_major_formatter('{x:g}')
            ax.xaxis.set_minor_formatter(NullFormatter())
        elif key == 'best_eta' and np.nanmax(np.abs(curves[key])) > 3:  # it has a pole
            ax.set_xscale('symlog', linthresh=1)
            ax.xaxis.set_major_formatter('{x:g}')
        ax.tick_params(axis='x', which='both', labelsize=7)
    axes[0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc='outside lower center', ncols=len(drawn), fontsize=8, frameon=False
    )
    return save(figure, out)


def report_value(row: Mapping[str, Any], key: str) -> float:
    """Return a value of a gradient report: that of a call, or true over predicted slope; NaN if there is none.

    Args:
        row (dict): the call, of :func:`surge_mm.analysis.gradients.report.measure_gradients`.
        key (str): name of the value, or ``'g_b'`` or ``'g_a'`` for the probe.
    """
    if key in ('g_b', 'g_a'):
        found: Any = (row.get('probe') or {}).get(key)
        known = found is not None and found['true'] is not None and found['predicted']
        return found['true'] / found['predicted'] if known else math.nan
    value = row.get(key)
    return math.nan if value is None else value
