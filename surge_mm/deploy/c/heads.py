"""Head of a one-stage detector as a struct of ``sources/boxes.c``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from surge_mm.deploy.predict.box_decoding import SPLIT, BoxDecoder
from surge_mm.utils.errors import UsageError

WORKSPACE = 32
"""Bytes of workspace for each candidate."""
WH_RATIO_CLIP = 16 / 1000
"""Default of ``DeltaXYWHBBoxCoder.decode``, which the heads do not change."""
NMS_OPTIONS = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}


class Head(NamedTuple):
    """What boxes are decoded with.

    Attributes:
        classes (int): Number of classes.
        softmax (bool): Whether scores are softmax without the last class, not sigmoid.
        has_factors (bool): Whether scores are multiplied by a factor, such as the centerness.
        is_distance (bool): Whether boxes are distances from points, not changes of anchors.
        clip (bool): Whether boxes are clipped to the image.
        strides (tuple[tuple[float, float], ...]): Strides (x, y) of each level.
        priors (tuple[np.ndarray, ...]): Priors at the first place of each level, ``(n, 4)``, float32.
        means (tuple[float, ...]): Means of the four numbers of a box.
        stds (tuple[float, ...]): Their standard deviations.
        score_thr (float): Scores above it are candidates.
        nms_pre (int): Number of candidates of a level.
        min_size (float): Least size of a box, or -1.
        iou_threshold (float): Boxes that overlap more are suppressed.
        class_agnostic (bool): Whether they are suppressed by boxes of other classes.
        split (int): See ``sources/boxes.c``.
        max_boxes (int): Number of boxes of an image.
    """

    classes: int
    softmax: bool
    has_factors: bool
    is_distance: bool
    clip: bool
    strides: tuple[tuple[float, float], ...]
    priors: tuple[np.ndarray, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    score_thr: float
    nms_pre: int
    min_size: float
    iou_threshold: float
    class_agnostic: bool
    split: int
    max_boxes: int

    def workspace(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Return the bytes of workspace of ``surge_boxes``.

        Args:
            sizes (Sequence[tuple[int, int]]): Height and width of the maps of each level.
        """
        scores = [
            h * w * len(p) * self.classes for (h, w), p in zip(sizes, self.priors, strict=True)
        ]
        return WORKSPACE * sum(n if self.nms_pre < 0 else min(n, self.nms_pre) for n in scores)


def head_of(model: Any, maps: int) -> Head:
    """Return the head of a detector.

    Args:
        model (nn.Module): Detector of MMDetection.
        maps (int): Number of maps that its head returns: scores, boxes and maybe factors of each level.

    Raises:
        UsageError: if the detector is no one-stage detector, or its head or an option of it has no form in C.
    """
    from mmdet.models import SingleStageDetector
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder

    name = type(model).__name__
    if not isinstance(model, SingleStageDetector):
        raise UsageError(
            f'{name} is no one-stage detector. Only these have a form in C: export to a packed file'
        )
    head = model.bbox_head
    decoder = BoxDecoder.of(model)
    if decoder is None:
        raise UsageError(
            f'{type(head).__name__} of {name} decodes boxes in a way of its own, which has no form in C. The decoding '
            'of FCOSHead, RetinaHead, SSDHead and RTMDetSepBNHead has: export to a packed file'
        )
    levels = len(head.prior_generator.strides)
    if maps not in (2 * levels, 3 * levels):
        raise UsageError(
            f'{type(head).__name__} returns {maps} maps for {levels} levels. Two or three of each level have a form '
            'in C'
        )
    nms, coder = decoder.nms, head.bbox_coder
    if nms.get('type', 'nms') != 'nms' or not set(nms) <= NMS_OPTIONS:
        raise UsageError(
            f"nms={nms!r} of test_cfg has no form in C, which has type='nms' with {', '.join(sorted(NMS_OPTIONS))}"
        )
    if type(coder) not in (DeltaXYWHBBoxCoder, DistancePointBBoxCoder):
        raise UsageError(
            f'{type(coder).__name__} of {type(head).__name__} has no form in C: DeltaXYWHBBoxCoder and '
            'DistancePointBBoxCoder have'
        )
    is_distance = type(coder) is DistancePointBBoxCoder
    if getattr(coder, 'add_ctr_clamp', False):
        raise UsageError('add_ctr_clamp=True of DeltaXYWHBBoxCoder has no form in C')
    if decoder.max_boxes < 0:
        raise UsageError(f'max_per_img={decoder.max_boxes} of test_cfg must be at least 0')
    return Head(
        classes=head.num_classes,
        softmax=not head.use_sigmoid_cls,
        has_factors=maps == 3 * levels,
        is_distance=is_distance,
        clip=bool(coder.clip_border),
        strides=tuple((float(x), float(y)) for x, y in head.prior_generator.strides),
        priors=_priors(head),
        means=(0.0,) * 4 if is_distance else tuple(map(float, coder.means)),
        stds=(1.0,) * 4 if is_distance else tuple(map(float, coder.stds)),
        score_thr=float(decoder.score_thr),
        nms_pre=int(decoder.nms_pre),
        min_size=float(decoder.min_size),
        iou_threshold=float(nms['iou_threshold']),
        class_agnostic=bool(nms.get('class_agnostic', False)),
        split=int(nms.get('split_thr', SPLIT)),
        max_boxes=int(decoder.max_boxes),
    )


def _priors(head: Any) -> tuple[np.ndarray, ...]:
    """Return the priors of the first place of each level, as boxes."""
    from mmdet.models.task_modules.prior_generators import AnchorGenerator, MlvlPointGenerator

    generator = head.prior_generator
    for kind in (AnchorGenerator, MlvlPointGenerator):
        made_by = 'grid_priors', 'single_level_grid_priors'
        if all(getattr(type(generator), key, None) is getattr(kind, key) for key in made_by):
            first = generator.grid_priors([(1, 1)] * len(generator.strides), device='cpu')
            priors = (level.numpy() for level in first)
            return tuple(np.tile(p, 4 // p.shape[1]) for p in priors)
    raise UsageError(
        f'{type(generator).__name__} of {type(head).__name__} has no form in C: AnchorGenerator and '
        'MlvlPointGenerator have'
    )


def c_head(head: Head, name: str) -> str:
    """Return the declaration of a ``surge_head``.

    Args:
        head (Head): The head.
        name (str): Name of the variable.
    """
    lines, levels = [], []
    for level, ((x, y), priors) in enumerate(zip(head.strides, head.priors, strict=True)):
        lines.append(f'static const float {name}_priors_{level}[] = {_braces(priors.reshape(-1))};')
        levels.append(f'{{{_number(x)}, {_number(y)}, {len(priors)}, {name}_priors_{level}}}')
    lines.append(f'static const surge_level {name}_levels[] = {{{", ".join(levels)}}};')
    # the overlap, float32, is compared with a double in PyTorch: the largest float32 below it decides alike
    threshold = np.float32(head.iou_threshold)
    if threshold > head.iou_threshold:
        threshold = np.nextafter(threshold, np.float32(-np.inf))
    flags = (head.softmax, head.has_factors, head.is_distance, head.clip)
    fields = (
        str(len(levels)),
        str(head.classes),
        *(str(int(flag)) for flag in flags),
        f'{name}_levels',
        _braces(head.means),
        _braces(head.stds),
        _number(abs(math.log(WH_RATIO_CLIP))),
        _number(head.score_thr),
        str(head.nms_pre),
        _number(head.min_size),
        _number(threshold),
        str(int(head.class_agnostic)),
        str(head.split),
        str(head.max_boxes),
    )
    return '\n'.join([*lines, f'static const surge_head {name} = {{{", ".join(fields)}}};', ''])


def _number(value: Any) -> str:
    return f'{float(np.float32(value)).hex()}f'


def _braces(values: Any) -> str:
    return '{' + ', '.join(map(_number, values)) + '}'
