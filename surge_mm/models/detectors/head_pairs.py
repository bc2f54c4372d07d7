"""Heads of a detector and of its teacher, and their outputs on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from torch import Tensor, nn

from surge_mm.models.detectors.distillation_losses import Predictions
from surge_mm.models.student import check_equal
from surge_mm.utils.errors import UsageError

DECODING = (BaseDenseHead._predict_by_feat_single, RPNHead._predict_by_feat_single)
"""Predictions of dense heads from logits and from 4 numbers for each box, which a ``bbox_coder`` decodes."""
LOGITS = (*DECODING, GFLHead._predict_by_feat_single)
"""Predictions of dense heads from logits."""
ADVICE = 'To compare the outputs of the necks alone, set cls_weight=0 and bbox_weight=0'
REGIONS = (StandardRoIHead._bbox_forward, CascadeRoIHead._bbox_forward)


@dataclass(frozen=True)
class HeadPair:
    """A head of the student and that of the teacher with the same task.

    Attributes:
        name (str): Name of the losses, with ``{}`` for ``cls`` or ``bbox``.
        student (Module): Head of the student.
        teacher (Module): Head of the teacher.
        with_boxes (bool): Whether the boxes of both can be decoded.
        weight (float): Weight of the losses: that of the stage of a cascade.
        extractor (Module, optional): RoI extractor of the student before the head; None for a dense head.
        stage (tuple[int]): Number of the stage of a cascade; empty if there is no cascade.
    """

    name: str
    student: Any
    teacher: Any
    with_boxes: bool
    weight: float = 1.0
    extractor: Any = None
    stage: tuple[int, ...] = ()

    def predictions(self, head: Any, output: tuple[Any, ...]) -> Predictions:
        """Return the predictions of a head.

        Args:
            head (Module): Head of the student or of the teacher.
            output (tuple): Its output, as in :class:`Outputs`.
        """
        if self.extractor is None:
            return _dense_predictions(head, output, self.with_boxes)
        rois, logits, deltas = output
        deltas = deltas.view(len(rois), deltas.shape[1] // 4, 4) if self.with_boxes else None
        return Predictions(logits, False, rois[:, 1:], deltas, head.bbox_coder)


@dataclass
class Outputs:
    """Outputs for a batch.

    Attributes:
        features (tuple[Tensor]): Outputs of the neck, ``(N, C, H, W)`` for each level.
        heads (dict[str, tuple]): Outputs of heads by the names of the losses. In front of those of an RoI head are its
            regions of interest, ``(P, 5)``.
    """

    features: tuple[Tensor, ...] = ()
    heads: dict[str, tuple[Any, ...]] = field(default_factory=dict)


def find_pairs(student: Any, teacher: Any) -> tuple[list[HeadPair], list[str]]:
    """Find the heads whose outputs distillation can compare.

    Args:
        student (BaseDetector): The student.
        teacher (BaseDetector): The teacher, for which :func:`check_heads` raises no error.

    Returns:
        tuple[list[HeadPair], list[str]]: The pairs, and a description of each loss that is left out.
    """
    pairs, left_out = [], []
    two_stage = hasattr(student, 'roi_head')
    prefix = 'loss_distill_rpn_' if two_stage else 'loss_distill_'
    heads = _dense_head(student), _dense_head(teacher)
    if all(map(_has_logits, heads)):
        decodes = all(type(h)._predict_by_feat_single in DECODING for h in heads)
        decodes = decodes and all(h.bbox_coder.encode_size == 4 for h in heads)
        pairs.append(HeadPair(prefix + '{}', heads[0], heads[1], decodes))
        left_out += [] if decodes else [f'{prefix}bbox: the boxes of {_names(heads)} are no deltas']
    elif heads != (None, None):
        losses = f'{prefix}cls, {prefix}bbox'
        left_out.append(f'{losses}: the outputs of {_names(heads)} have a form of their own')
    if two_stage:
        stages = _region_stages(student), _region_stages(teacher)
        regions = list(_region_pairs(student.roi_head, *stages))
        pairs += regions
        if not all(pair.with_boxes for pair in regions):
            heads = tuple(head for pair in regions for head in (pair.student, pair.teacher))
            left_out.append(f'loss_distill_bbox: the boxes of {_names(heads)} are no deltas')
        if not all(stages):
            names = _names([student.roi_head, teacher.roi_head])
            left_out.append(
                f'loss_distill_cls, loss_distill_bbox: {names} have a form of their own'
            )
    return pairs, left_out


def check_heads(student: Any, teacher: Any) -> None:
    """Check that heads that :func:`find_pairs` compares have the same classes at the same positions.

    Args:
        student (BaseDetector): The student.
        teacher (BaseDetector): The teacher.

    Raises:
        UsageError: if they differ.
    """
    models = student, teacher
    check_equal(*({'number of stages': 1 + hasattr(m, 'roi_head')} for m in models), advice=ADVICE)
    heads = [_dense_head(model) for model in models]
    if all(map(_has_logits, heads)):
        check_equal(*map(_describe_dense, heads), advice=ADVICE)
    if hasattr(student, 'roi_head'):
        stages = [_region_stages(model) for model in models]
        if all(stages):
            check_equal(*({'number of RoI stages': len(s)} for s in stages), advice=ADVICE)


@contextmanager
def recorded(student: Any, pairs: Sequence[HeadPair]) -> Iterator[Outputs]:
    """Record the outputs of a detector while the block runs it once.

    Args:
        student (BaseDetector): The detector.
        pairs (Sequence[HeadPair]): Its heads.

    Yields:
        Outputs: Filled in by the block.
    """
    outputs = Outputs()
    rois: dict[nn.Module, Tensor] = {}

    def keep_features(neck: nn.Module, args: Any, output: Any) -> None:
        outputs.features = _levels(output)

    def keep_rois(extractor: nn.Module, args: Any, output: Any) -> None:
        rois[extractor] = args[1]

    def keep_head(pair: HeadPair, output: Any) -> None:
        before = () if pair.extractor is None else (rois[pair.extractor],)
        outputs.heads[pair.name] = (*before, *output)

    with ExitStack() as stack:

        def hook(module: nn.Module, function: Any) -> None:
            stack.callback(module.register_forward_hook(function).remove)

        hook(student.neck, keep_features)
        for pair in pairs:
            hook(pair.student, lambda _, args, output, pair=pair: keep_head(pair, output))
            if pair.extractor is not None:
                hook(pair.extractor, keep_rois)
        yield outputs


@torch.no_grad()
def teacher_outputs(
    teacher: Any, pairs: Sequence[HeadPair], inputs: Tensor, of_student: Outputs
) -> Outputs:
    """Run the teacher on the images and the regions of interest of the student.

    Args:
        teacher (BaseDetector): The teacher, in evaluation mode.
        pairs (Sequence[HeadPair]): The heads.
        inputs (Tensor): Images, ``(N, C, H, W)``.
        of_student (Outputs): Outputs of the student.

    Returns:
        Outputs: Outputs of the teacher.
    """
    outputs = Outputs(_levels(teacher.extract_feat(inputs)))
    for pair in pairs:
        if pair.name not in of_student.heads:  # a cascade ends where no region is left
            continue
        if pair.extractor is None:
            pair.teacher.training = pair.student.training  # in training, FCOS does not scale boxes
            try:
                outputs.heads[pair.name] = pair.teacher(outputs.features)
            finally:
                pair.teacher.training = False
        else:
            rois = of_student.heads[pair.name][0]
            result = teacher.roi_head._bbox_forward(*pair.stage, outputs.features, rois)
            outputs.heads[pair.name] = (rois, result['cls_score'], result['bbox_pred'])
    return outputs


def check_shapes(what: str, theirs: Sequence[Tensor], own: Sequence[Tensor]) -> None:
    """Raise an error if tensors of the teacher and of the student differ in number or shape.

    Args:
        what (str): What they are, for the error message.
        theirs (Sequence[Tensor]): Tensors of the teacher.
        own (Sequence[Tensor]): Tensors of the student.

    Raises:
        UsageError: if they differ.
    """
    shapes = [[tuple(x.shape) for x in levels] for levels in (theirs, own)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f'teacher: its outputs of the {what} have the shapes {shapes[0]}, those of the model {shapes[1]}. Use a '
            'teacher with the same channels and strides'
        )


def _dense_predictions(head: Any, output: tuple[Any, ...], with_boxes: bool) -> Predictions:
    """Join the predictions for all levels: at all positions of the first image, then of the second, and so on."""
    logits, deltas = output[:2]
    sizes = [level.shape[2:] for level in logits]
    levels = head.prior_generator.grid_priors(sizes, device=logits[0].device)
    priors = torch.cat([getattr(level, 'tensor', level) for level in levels])
    return Predictions(
        _flat(logits, head.cls_out_channels),
        head.use_sigmoid_cls,
        priors.repeat(len(logits[0]), 1),
        _flat(deltas, 4)[:, None] if with_boxes else None,
        getattr(head, 'bbox_coder', None),
    )


def _flat(levels: Sequence[Tensor], channels: int) -> Tensor:
    """Join maps ``(N, A * channels, H, W)`` to ``(N * positions, channels)``."""
    flat = [x.permute(0, 2, 3, 1).reshape(len(x), -1, channels) for x in levels]
    return torch.cat(flat, 1).flatten(0, 1)


def _levels(features: Any) -> tuple[Tensor, ...]:
    return (features,) if isinstance(features, Tensor) else tuple(features)


def _dense_head(model: Any) -> Any:
    return getattr(model, 'rpn_head' if hasattr(model, 'roi_head') else 'bbox_head', None)


def _has_logits(head: Any) -> bool:
    return (
        isinstance(head, BaseDenseHead)
        and type(head).predict_by_feat is BaseDenseHead.predict_by_feat
        and getattr(type(head), '_predict_by_feat_single', None) in LOGITS
        and not getattr(getattr(head, 'loss_cls', None), 'custom_cls_channels', False)
    )


def _region_stages(model: Any) -> list[tuple[Any, Any]]:
    """Return RoI extractor and box head of each stage; none if they have another form than most."""
    roi_head = model.roi_head
    if getattr(type(roi_head), '_bbox_forward', None) not in REGIONS:
        return []
    parts = [getattr(roi_head, name, None) for name in ('bbox_roi_extractor', 'bbox_head')]
    stages = (
        list(zip(*parts, strict=True))
        if isinstance(parts[1], nn.ModuleList)
        else [(parts[0], parts[1])]
    )
    usual = all(  # SABLHead and others skip the constructor of BBoxHead, which sets with_cls
        isinstance(head, BBoxHead)
        and getattr(head, 'with_cls', False)
        and not head.custom_cls_channels
        for _, head in stages
    )
    return stages if usual else []


def _region_pairs(
    roi_head: Any, own: Sequence[tuple[Any, Any]], theirs: Sequence[tuple[Any, Any]]
) -> Iterator[HeadPair]:
    cascade = isinstance(getattr(roi_head, 'bbox_head', None), nn.ModuleList)
    for stage, ((extractor, student), (_, teacher)) in enumerate(zip(own, theirs, strict=False)):
        yield HeadPair(
            (f's{stage}.' if cascade else '') + 'loss_distill_{}',
            student,
            teacher,
            all(head.with_reg and head.bbox_coder.encode_size == 4 for head in (student, teacher)),
            roi_head.stage_loss_weights[stage] if cascade else 1.0,
            extractor,
            (stage,) if cascade else (),
        )


def _describe_dense(head: Any) -> dict[str, Any]:
    priors = head.prior_generator
    anchors = getattr(priors, 'base_anchors', None)
    return {
        'number of class logits': head.cls_out_channels,
        'use_sigmoid_cls': head.use_sigmoid_cls,
        'strides': [tuple(stride) for stride in priors.strides],
        'anchors': anchors and [level.tolist() for level in anchors],
        'offset of points': None if anchors else priors.offset,
        'norm_on_bbox': getattr(head, 'norm_on_bbox', None),
    }


def _names(heads: Sequence[Any]) -> str:
    return ' and '.join(dict.fromkeys(type(head).__name__ for head in heads))
