"""Plots of a run: predictions beside ground truth, and the curves of training.

Each function draws a new figure and saves one PNG. None of them uses pyplot or changes a global setting.
"""

import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from surge_mm.analysis.scalars import Lines, curve, read_scalars
from surge_mm.utils.atomic_write import write_atomically

# Palette of Okabe and Ito, for color-blind readers.
BLUE, ORANGE, GREEN = '#0072B2', '#E69F00', '#009E73'
VERMILION, PURPLE, SKY = '#D55E00', '#CC79A7', '#56B4E9'
Curves = dict[str, tuple[str, str, float]]
"""Curves of one panel: label, color and factor by key in the log."""
METRICS: Curves = {
    'coco/bbox_mAP': ('mAP', BLUE, 1.0),
    'coco/bbox_mAP_50': ('AP50', ORANGE, 1.0),
    'pascal_voc/mAP': ('VOC mAP', PURPLE, 1.0),
    'accuracy/top1': ('top-1 accuracy', GREEN, 0.01),
    'glue/accuracy': ('accuracy', GREEN, 0.01),
    'glue/matthews': ('Matthews correlation', ORANGE, 0.01),
    'glue/spearman': ('Spearman correlation', PURPLE, 0.01),
}
LAMBDA: Curves = {
    'ags_lambda_mean': ('mean', BLUE, 1.0),
    'ags_lambda_min': ('min of layers', SKY, 1.0),
    'ags_lambda_max': ('max of layers', VERMILION, 1.0),
}
GRADIENTS: Curves = {
    'ags_cos_mean': ('cos(g_b, g_a)', PURPLE, 1.0),
    'ags_clipped_share': ('share of clipped activations', ORANGE, 1.0),
}
MATCH_IOU = 0.5
PANEL_INCHES = 2.2
DPI = 150


class Boxes(NamedTuple):
    """The objects of one image.

    Attributes:
        boxes (np.ndarray): x1, y1, x2, y2 in pixels, shape (N, 4).
        labels (np.ndarray): indices into the class names, shape (N,).
        scores (np.ndarray, optional): scores in [0, 1], shape (N,). None for ground truth.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


def draw_detections(
    images: Sequence[np.ndarray],
    ground_truth: Sequence[Boxes],
    predictions: Mapping[str, Sequence[Boxes]],
    class_names: Sequence[str],
    out: str | os.PathLike,
) -> Path:
    """Draw the ground truth and the predictions of models side by side for each image, and save one PNG.

    A prediction that :func:`match` accepts is drawn in a solid line, another in a dashed line of another color, and one
    with a score below 0.3 not at all. There are two images in a row.

    Args:
        images (Sequence[np.ndarray]): images in RGB, uint8, shape (H, W, 3).
        ground_truth (Sequence[Boxes]): the objects of each image.
        predictions (Mapping[str, Sequence[Boxes]]): the predictions for each image, with scores, by the title of the
            model.
        class_names (Sequence[str]): names of the classes.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: if the sequences differ in length.
    """
    panels = 1 + len(predictions)
    columns = panels * min(2, len(images))
    rows = math.ceil(panels * len(images) / columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(
        figsize=(columns * PANEL_INCHES, rows * PANEL_INCHES * aspect + 0.6),
        layout='constrained',
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    models = [ground_truth, *predictions.values()]
    panel = iter(axes)
    for image, truth, *predicted in zip(images, *models, strict=True):
        ax = next(panel)
        ax.imshow(image)
        ax.set_title('ground truth', fontsize=10)
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            _draw_box(ax, box, class_names[label], GREEN, '-')
        for title, found in zip(predictions, predicted, strict=True):
            ax = next(panel)
            ax.imshow(image)
            ax.set_title(title, fontsize=10)
            hits = match(found, truth)
            for index in np.flatnonzero(found.scores >= 0.3):
                text = f'{class_names[found.labels[index]]} {found.scores[index]:.2f}'
                color, line = (BLUE, '-') if hits[index] else (VERMILION, '--')
                _draw_box(ax, found.boxes[index], text, color, line)
    figure.legend(
        handles=[
            Rectangle((0, 0), 1, 1, fill=False, linewidth=1.5, edgecolor=c, linestyle=s, label=t)
            for c, s, t in (
                (GREEN, '-', 'object'),
                (BLUE, '-', f'right (class, IoU ≥ {MATCH_IOU})'),
                (VERMILION, '--', 'wrong'),
            )
        ],
        loc='outside lower center',
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    return save(figure, out)


def match(predicted: Boxes, truth: Boxes) -> np.ndarray:
    """Match predictions to objects, the highest score first.

    A prediction matches if it has the class of an object that is not matched yet, and an IoU of 0.5 or more with it.

    Args:
        predicted (Boxes): N predictions with scores.
        truth (Boxes): the objects of the same image.

    Returns:
        np.ndarray: which predictions match, bool, shape (N,).
    """
    hits = np.zeros(len(predicted.boxes), dtype=bool)
    free = np.ones(len(truth.boxes), dtype=bool)
    if predicted.scores is None or not len(free):
        return hits
    for index in np.argsort(-predicted.scores, kind='stable'):
        box = predicted.boxes[index]
        low = np.maximum(box[:2], truth.boxes[:, :2])
        high = np.minimum(box[2:], truth.boxes[:, 2:])
        shared = np.prod((high - low).clip(0), axis=1)
        areas = np.prod(truth.boxes[:, 2:] - truth.boxes[:, :2], axis=1)
        iou = shared / (np.prod(box[2:] - box[:2]) + areas - shared).clip(1e-9)
        iou[~free | (truth.labels != predicted.labels[index])] = 0
        best = iou.argmax()
        hits[index] = iou[best] >= MATCH_IOU
        free[best] &= not hits[index]
    return hits


def plot_training(
    log: str | os.PathLike | Sequence[str | os.PathLike], out: str | os.PathLike
) -> Path:
    """Draw the curves of a training run and save one PNG: loss, validation metrics, and the statistics of AGS.

    The legend has the last value of each curve. Panels for which the log has no entries are left out.

    Args:
        log (str or Sequence[str]): MMEngine's ``<work_dir>/<time>/vis_data/scalars.json``; for a resumed run all of
            them, the oldest first.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: if a line is not JSON, or the log has nothing to draw.
    """
    files = [log] if isinstance(log, str | os.PathLike) else list(log)
    train, val = read_scalars(files)
    panels = (
        ('Loss', train, _loss_curves(train)),
        ('Validation', val, METRICS),
        ('AGS: scale λ of the branch', train, LAMBDA),
        ('Gradients', train, GRADIENTS),
    )
    drawn = [panel for panel in panels if any(key in line for line in panel[1] for key in panel[2])]
    if not drawn:
        raise ValueError(f'nothing to draw in {", ".join(map(str, files))}')
    last_epoch = max((line.get('epoch', 0) for line in train), default=0)
    by_epoch = all(line['step'] <= last_epoch for line in val)
    figure = Figure(figsize=(4 * len(drawn), 3.4), layout='constrained')
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    for ax, (title, lines, curves) in zip(axes, drawn, strict=True):
        for key, (label, color, factor) in curves.items():
            steps, values = curve(lines, key)
            if steps:
                scaled = [factor * value for value in values]
                text = f'{label}: {scaled[-1]:.3g}'
                ax.plot(steps, scaled, color=color, marker='.', markersize=3, label=text)
        ax.set(title=title, xlabel='epoch' if lines is val and by_epoch else 'iteration')
        ax.axhline(0, color='grey', linewidth=0.8)
        finish(ax)
    return save(figure, out)


def plot_costs(
    names: Sequence[str], costs: Sequence[float], label: str, out: str | os.PathLike
) -> Path:
    """Draw one bar for each cost and save one PNG.

    Args:
        names (Sequence[str]): what each bar stands for, from top to bottom.
        costs (Sequence[float]): the lengths of the bars.
        label (str): label of the axis.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
    figure = Figure(figsize=(7, 1 + 0.2 * len(names)), layout='constrained')
    ax = figure.subplots()
    ax.barh(range(len(names)), costs, color=BLUE)
    ax.set_yticks(range(len(names)), names, fontsize=7)
    ax.invert_yaxis()
    ax.set(xlabel=label)
    ax.grid(alpha=0.3, axis='x')
    ax.spines[['top', 'right']].set_visible(False)
    return save(figure, out)


def draw_time_profile(
    parts: Mapping[str, Mapping[str, float]], title: str, out: str | os.PathLike
) -> Path:
    """Draw a bar for each part of a :class:`.TimeProfile`, divided into its layers, and save one PNG.

    Args:
        parts (Mapping[str, Mapping[str, float]]): the seconds of each name within a part, by part. Empty parts are left
            out.
        title (str): title of the figure.
        out (str): the PNG file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
    parts = {part: inner for part, inner in parts.items() if inner}
    whole = sum(sum(inner.values()) for inner in parts.values())
    figure = Figure(figsize=(7, 1 + 0.3 * len(parts)), layout='constrained')
    ax = figure.subplots()
    for row, inner in enumerate(parts.values()):
        left = 0.0
        for seconds in inner.values():
            ax.barh(row, 1e3 * seconds, left=left, color=BLUE, edgecolor='white', linewidth=0.4)
            left += 1e3 * seconds
        ax.text(left, row, f'  {left:.2f} ms, {left / (1e3 * whole):.0%}', va='center', fontsize=8)
    ax.set_yticks(range(len(parts)), list(parts), fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.2)
    ax.set(xlabel=f'ms, {1e3 * whole:.2f} together')
    ax.set_title(textwrap.fill(title, 90), fontsize=7)
    ax.spines[['top', 'right']].set_visible(False)
    return save(figure, out)


def _loss_curves(train: Lines) -> Curves:
    parts = sorted({key for line in train for key in line if 'loss' in key and key != 'loss'})
    colors = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
    curves: Curves = {'loss': ('loss', 'black', 1.0)}
    return curves | {key: (key, color, 1.0) for key, color in zip(parts, colors, strict=False)}


def finish(ax: Axes) -> None:
    """Add grid and legend to axes of curves."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3)
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(fontsize=8, frameon=False)


def _draw_box(ax: Axes, box: np.ndarray, text: str, color: str, line: str) -> None:
    x1, y1, x2, y2 = (float(value) for value in box)
    corner, size = (x1 - 0.5, y1 - 0.5), (x2 - x1, y2 - y1)
    ax.add_patch(Rectangle(corner, *size, fill=False, ec=color, linestyle=line, linewidth=1.3))
    at_the_top = y1 < 0.08 * (ax.get_ylim()[0] + 0.5)
    ax.text(
        x1,
        y1,
        text,
        fontsize=6.5,
        color='white',
        va='top' if at_the_top else 'bottom',
        bbox={'facecolor': color, 'edgecolor': 'none', 'pad': 0.8},
        clip_on=True,
    )


def save(figure: Figure, out: str | os.PathLike) -> Path:
    """Save a figure as PNG, without pyplot.

    Args:
        figure (Figure): the figure.
        out (str): the file to write. Its folder is created if necessary.

    Returns:
        Path: ``out``.
    """
    FigureCanvasAgg(figure)
    image = io.BytesIO()
    figure.savefig(image, format='png', dpi=DPI)
    write_atomically(out, image.getvalue())
    return Path(out)
