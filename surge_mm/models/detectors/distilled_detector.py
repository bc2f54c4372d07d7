"""The registered model ``surge_mm.DistilledDetector``: a binarized detector, trained with a full-precision teacher.

It is ``surge_mm.Binarized`` with a teacher. In a config, the keys of the model stay where they are::

    model = dict(
        type='surge_mm.DistilledDetector',
        base_type='mmdet.RetinaNet',
        teacher=dict(config='my_config.py', checkpoint='my_checkpoint.pth'),
        shortcuts=True)

The result is an instance of ``base_type``, with the state dict of the binarized model. Training alone needs the
teacher: it is loaded when the weights are initialized, and is part of no checkpoint and of no packed file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.detectors.base import BaseDetector
from torch import Tensor, nn

from surge_mm.models.binarization.binarized_model import Binarized, check_argument_names
from surge_mm.models.detectors.distillation_losses import box_loss, class_loss, feature_loss
from surge_mm.models.detectors.head_pairs import (
    check_heads,
    check_shapes,
    find_pairs,
    recorded,
    teacher_outputs,
)
from surge_mm.models.student import Student, check_images
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Fraction, NonNegative, checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import log
from surge_mm.utils.suggestions import argument_names


@dataclass(frozen=True)
class _Settings:
    """The arguments of :func:`DistilledDetector` that concern the losses."""

    feat_weight: float
    cls_weight: float
    bbox_weight: float
    score_thr: float


@MODELS.register_module()
@checked
def DistilledDetector(  # noqa: N802  configs call it as they call the class of a model
    base_type: str | type,
    teacher: Mapping[str, Any],
    feat_weight: NonNegative = 6.0,
    cls_weight: NonNegative = 1.0,
    bbox_weight: NonNegative = 1.0,
    score_thr: Fraction = 0.3,
    init: Literal['teacher'] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build and binarize the detector ``base_type``, to be trained with a teacher beside the ground truth.

    The losses of the detector get these companions, each multiplied by its weight:

    - ``loss_distill_feat``: :func:`.feature_loss` of the outputs of the necks (PKD, arXiv 2207.02039).
    - ``loss_distill_cls``: :func:`.class_loss` of the class logits.
    - ``loss_distill_bbox``: :func:`.box_loss` of the decoded boxes.

    In a two-stage detector, ``loss_distill_rpn_cls`` and ``loss_distill_rpn_bbox`` compare the region proposal
    networks. The other two compare the RoI heads on the student's regions of interest; in a cascade, with ``s0.``,
    ``s1.``, ... before the name. Where a head predicts classes or boxes in another form than most heads of
    MMDetection, these terms are left out, and this is logged.

    Each rank divides by its own number of positions. The teacher is in evaluation mode and has no gradient. Under
    autocast, it runs in the same dtype as the student.

    Args:
        base_type (str or type): Class of the detector, such as ``'mmdet.RetinaNet'``.
        teacher (dict): ``config`` and ``checkpoint`` of a full-precision detector with the same classes, the same
            normalization of images, and a neck with the same output channels and strides.
        feat_weight (float): Weight of ``loss_distill_feat``. 0 leaves it out. Defaults to 6, as in PKD.
        cls_weight (float): Weight of ``loss_distill_cls``. 0 leaves it out. Defaults to 1.
        bbox_weight (float): Weight of ``loss_distill_bbox``. 0 leaves it out. Defaults to 1.
        score_thr (float): The teacher's boxes with a best score above it are targets. Defaults to 0.3.
        init (str, optional): ``'teacher'`` to initialize the student by the tensors of the teacher that have the same
            name and shape. Defaults to None: by its own ``init_cfg``.
        **kwargs: Arguments of :func:`surge_mm.models.Binarized` and of ``base_type``.

    Returns:
        nn.Module: The binarized detector, an instance of ``base_type``.

    Raises:
        UsageError: if ``teacher`` does not have exactly its two keys, all weights are 0, ``base_type`` is no
            single-stage or two-stage detector with a neck, or as :func:`surge_mm.binarize`. When the teacher is loaded,
            if a file is missing or wrong, or its classes, normalization or heads are not those of the student. In the
            first step, if its classes have other names than those of the training set, or its outputs other shapes.
    """
    if not feat_weight + cls_weight + bbox_weight:
        raise UsageError(
            'DistilledDetector: feat_weight, cls_weight and bbox_weight are all 0. Use surge_mm.Binarized to train '
            'without a teacher'
        )
    own = [*argument_names(DistilledDetector), *argument_names(Binarized)]
    check_argument_names('DistilledDetector', base_type, kwargs, own)
    student = Binarized(base_type, **kwargs)
    require_detector('DistilledDetector', student)
    base: Any = type(student)
    student.__class__ = _distilled(base)
    student._set_teacher('DistilledDetector', teacher, init)
    student._settings = _Settings(feat_weight, cls_weight, bbox_weight, score_thr)
    return student


def require_detector(name: str, model: nn.Module) -> None:
    """Raise an error if a model is no single-stage or two-stage detector with a neck.

    Args:
        name (str): What the model is, for the error message.
        model (nn.Module): The model.

    Raises:
        UsageError: if it is none.
    """
    if not isinstance(model, (SingleStageDetector, TwoStageDetector)):
        raise UsageError(
            f'{name}: {type(model).__name__} must be a SingleStageDetector or TwoStageDetector of MMDetection: its '
            'outputs cannot be compared with those of another detector'
        )
    if not model.with_neck:
        raise UsageError(
            f'{name}: {type(model).__name__} has no neck, whose outputs distillation compares'
        )


def _num_classes(model: Any) -> int | None:
    """Return the number of classes of a detector, None if its head has none."""
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    return getattr(head[0] if isinstance(head, nn.ModuleList) else head, 'num_classes', None)


@functools.cache
def _distilled(base: type) -> type:
    return type(f'Distilled{base.__name__}', (Distillation, base), {'__module__': __name__})


def _unpickled(base: type) -> nn.Module:
    cls: Any = _distilled(base)
    return cls.__new__(cls)


class Distillation(Student, BaseDetector):
    """The part of the class of a distilled detector that precedes the class of the detector."""

    _settings: _Settings

    def _check_teacher(self, teacher: nn.Module) -> None:
        require_detector('teacher', teacher)
        check_images(self, teacher, _num_classes)
        if self._compares_heads:
            check_heads(self, teacher)
            for description in find_pairs(self, teacher)[1]:
                log(f'distillation without {description}')

    @property
    def _compares_heads(self) -> bool:
        return self._settings.cls_weight + self._settings.bbox_weight > 0

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # its class has no name in a module; a copy loads the teacher anew
        return _unpickled, (type(self).__bases__[1],), {**self.__dict__, '_teacher': []}

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """Compute the losses of the detector and those of distillation.

        Args:
            batch_inputs (Tensor): Images, ``(N, C, H, W)``.
            batch_data_samples (list[DetDataSample]): N samples with ground truth.

        Returns:
            dict[str, Tensor]: The losses by name.

        Raises:
            UsageError: if the outputs of the teacher have other shapes or its classes other names.
        """
        teacher, settings = self._load_teacher(), self._settings
        self._check_training_set()
        pairs = find_pairs(self, teacher)[0] if self._compares_heads else []
        with recorded(self, pairs) as own:
            losses = super().loss(batch_inputs, batch_data_samples)
        theirs = teacher_outputs(teacher, pairs, batch_inputs, own)
        check_shapes('neck', theirs.features, own.features)
        if settings.feat_weight:
            loss = feature_loss(own.features, theirs.features)
            losses['loss_distill_feat'] = settings.feat_weight * loss
        for pair in pairs:
            if pair.name not in own.heads:
                continue
            student = pair.predictions(pair.student, own.heads[pair.name])
            target = pair.predictions(pair.teacher, theirs.heads[pair.name])
            check_shapes('class logits', [target.logits], [student.logits])
            for term, function, weight in (
                ('cls', class_loss, settings.cls_weight),
                ('bbox', box_loss, settings.bbox_weight if pair.with_boxes else 0),
            ):
                if weight:
                    loss = function(student, target, settings.score_thr)
                    losses[pair.name.format(term)] = pair.weight * weight * loss
        return losses
