"""Checks that a detector can teach another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmengine.logging import MessageHub
from torch import nn

from surge_mm.utils.errors import UsageError


def classes_of_checkpoint(meta: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the classes in ``meta`` of a checkpoint, if it has them."""
    classes = (meta.get('dataset_meta') or {}).get('classes') or meta.get('CLASSES')
    return list(classes) if classes else None


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


def check_teacher(student: Any, teacher: Any) -> None:
    """Check that a teacher can teach a student, as far as their parts tell without an image.

    Args:
        student (BaseDetector): The student.
        teacher (BaseDetector): The teacher.

    Raises:
        UsageError: if number of classes or normalization of images differ.
    """
    pairs = {
        'number of classes': (_num_classes(teacher), _num_classes(student)),
        'data_preprocessor (mean, std, channels reversed)': (
            _normalization(teacher),
            _normalization(student),
        ),
    }
    for what, (theirs, own) in pairs.items():
        if theirs != own:
            raise UsageError(
                f'teacher: its {what} is {theirs}, that of the model is {own}. They must be equal, as both see the '
                'same images'
            )


def check_class_names(theirs: list[str] | None) -> None:
    """Check that the classes of the teacher have the names of those of the training set.

    Args:
        theirs (list[str], optional): Names of the classes of the teacher. None if they are unknown.

    Raises:
        UsageError: if the names or their order differ.
    """
    own = (MessageHub.get_current_instance().get_info('dataset_meta') or {}).get('classes')
    if theirs and own and list(theirs) != list(own):
        raise UsageError(
            f'teacher: its classes are {list(theirs)}, those of the training set are {list(own)}. They must be equal, '
            'in the same order'
        )


def _num_classes(model: Any) -> int | None:
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    return getattr(head[0] if isinstance(head, nn.ModuleList) else head, 'num_classes', None)


def _normalization(model: Any) -> tuple[Any, ...]:
    preprocessor = model.data_preprocessor
    numbers = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    lists = (x if x is None else [round(v, 4) for v in x.flatten().tolist()] for x in numbers)
    return (*lists, getattr(preprocessor, '_channel_conversion', False))
