"""Plots of a run: predictions beside ground truth, and the curves of training.

Each function draws a new figure and saves one PNG. None of them uses pyplot or changes a global setting.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from surge_mm.analysis.log import Lines, curve, read_log

# Palette of Okabe and Ito, for color-blind readers.
BLUE, ORANGE, GREEN = '#0072B2', '#E69F00', '#009E73'
VERMILION, PURPLE, SKY = '#D55E00', '#CC79A7', '#56B4E9'
# key in the log: label, color, factor
METRICS = {
    'coco/bbox_mAP': ('mAP', BLUE, 1.0),
    'coco/bbox_mAP_50': ('AP50', ORANGE, 1.0),
    'pascal_voc/mAP': ('VOC mAP', PURPLE, 1.0),
    'accuracy/top1': ('top-1 accuracy', GREEN, 0.01),
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
    score_threshold: float = 0.3,
    images_per_row: int = 2,
) -> Path:
    """Draw the ground truth and the predictions of models side by side for each image, and save one PNG.

    A prediction that :func:`match` accepts is drawn in a solid line, another in a dashed line of another color.

    Args:
        images (Sequence[np.ndarray]): images in RGB, uint8, shape (H, W, 3).
        ground_truth (Sequence[Boxes]): the objects of each image.
        predictions (Mapping[str, Sequence[Boxes]]): the predictions for each image, with scores, by the title of the
            model.
        class_names (Sequence[str]): names of the classes.
        out (str): the PNG file to write. Its folder is created if necessary.
        score_threshold (float): predictions with a lower score are not drawn. Defaults to 0.3.
        images_per_row (int): number of images side by side. Defaults to 2.

    Returns:
        Path: ``out``.

    Raises:
        ValueError: if there is no image or model, the sequences differ in length, or predictions have no scores.
    """
    counts = {len(ground_truth), *(len(boxes) for boxes in predictions.values())}
    if not images or not predictions or counts != {len(images)}:
        raise ValueError(
            f'{len(images)} images, {len(ground_truth)} ground_truth and predictions of '
            f'{[len(boxes) for boxes in predictions.values()]} images; expected equal numbers, and at least one'
        )
    panels = 1 + len(predictions)
    columns = panels * min(images_per_row, len(images))
    rows = math.ceil(panels * len(images) / columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure = Figure(
        figsize=(columns * PANEL_INCHES, rows * PANEL_INCHES * aspect + 0.6),
        layout='constrained',
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for number, (image, truth) in enumerate(zip(images, ground_truth, strict=True)):
        first, *others = axes[panels * number : panels * (number + 1)]
        titles = ['ground truth', *predictions] if panels * number < columns else [''] * panels
        for ax, title in zip((first, *others), titles, strict=True):
            ax.imshow(image)
            ax.set_title(title, fontsize=10)
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            _draw_box(first, box, class_names[label], GREEN, '-')
        for ax, (title, boxes) in zip(others, predictions.items(), strict=True):
            predicted = boxes[number]
            if predicted.scores is None:
                raise ValueError(f'predictions[{title!r}][{number}] have no scores')
            hits = match(predicted, truth)
            for index in np.flatnonzero(predicted.scores >= score_threshold):
                text = f'{class_names[predicted.labels[index]]} {predicted.scores[index]:.2f}'
                color, line = (BLUE, '-') if hits[index] else (VERMILION, '--')
                _draw_box(ax, predicted.boxes[index], text, color, line)
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

    Panels for which the log has no entries are left out.

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
    train, val = read_log(files)
    drawers = (_draw_loss, _draw_metrics, _draw_lambda, _draw_gradients)
    needed = (
        any('loss' in line for line in train),
        any(key in line for line in val for key in METRICS),
        any('ags_lambda_mean' in line for line in train),
        any(key in line for line in train for key in ('ags_cos_mean', 'ags_clipped_share')),
    )
    if not any(needed):
        raise ValueError(f'nothing to draw in {", ".join(map(str, files))}')
    figure = Figure(figsize=(4 * sum(needed), 3.4), layout='constrained')
    axes = figure.subplots(1, sum(needed), squeeze=False)[0]
    drawing = [drawer for drawer, need in zip(drawers, needed, strict=True) if need]
    for ax, drawer in zip(axes, drawing, strict=True):
        drawer(ax, train, val)
        ax.grid(alpha=0.3)
        ax.spines[['top', 'right']].set_visible(False)
        if len(ax.get_legend_handles_labels()[0]) > 1:
            ax.legend(fontsize=9, frameon=False)
    return save(figure, out)


def _draw_loss(ax: Axes, train: Lines, val: Lines) -> None:
    parts = sorted({key for line in train for key in line if 'loss' in key and key != 'loss'})
    ax.plot(*curve(train, 'loss'), color='black', linewidth=2, label='loss')
    for key, color in zip(parts, (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY), strict=False):
        ax.plot(*curve(train, key), color=color, linewidth=1, label=key)
    ax.set(title='Loss', xlabel='iteration')
    ax.set_ylim(bottom=0)


def _draw_metrics(ax: Axes, train: Lines, val: Lines) -> None:
    for key, (label, color, factor) in METRICS.items():
        steps, values = curve(val, key)
        if steps:
            scaled = [factor * value for value in values]
            ax.plot(steps, scaled, color=color, marker='o', markersize=3, label=label)
            end, last = (steps[-1], scaled[-1]), f'{scaled[-1]:.3f} '
            ax.text(*end, last, ha='right', va='bottom', fontsize=9, color=color)
            title = label
    several = len(ax.lines) > 1
    by_epoch = max(line['step'] for line in val) <= max(
        (li.get('epoch', 0) for li in train), default=0
    )
    ax.set(title='Validation' if several else title, xlabel='epoch' if by_epoch else 'iteration')
    ax.set_ylim(0, 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_lambda(ax: Axes, train: Lines, val: Lines) -> None:
    steps, low = curve(train, 'ags_lambda_min')
    high_steps, high = curve(train, 'ags_lambda_max')
    if steps and steps == high_steps:
        ax.fill_between(
            steps, low, high, color=SKY, alpha=0.4, linewidth=0, label='min to max over layers'
        )
    ax.plot(*curve(train, 'ags_lambda_mean'), color=BLUE, linewidth=2, label='mean')
    ax.set(title='AGS: scale λ of the branch', xlabel='iteration')
    ax.set_ylim(bottom=0)


def _draw_gradients(ax: Axes, train: Lines, val: Lines) -> None:
    for key, label, color in (
        ('ags_cos_mean', 'cos(g_b, g_a)', PURPLE),
        ('ags_clipped_share', 'share of clipped activations', ORANGE),
    ):
        steps, values = curve(train, key)
        if steps:
            ax.plot(steps, values, color=color, linewidth=2, label=label)
    ax.set(title='Gradients', xlabel='iteration')
    ax.axhline(0, color='grey', linewidth=0.8)


def _draw_box(ax: Axes, box: np.ndarray, text: str, color: str, line: str) -> None:
    x1, y1, x2, y2 = (float(value) for value in box)
    style: dict[str, Any] = {
        'fill': False,
        'edgecolor': color,
        'linewidth': 1.3,
        'linestyle': line,
    }
    ax.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **style))
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
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(out, format='png', dpi=DPI)
    return out
