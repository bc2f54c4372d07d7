"""What distillation needs of a detector, as a student and as a teacher."""

from __future__ import annotations

from typing import Any

from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from torch import nn

from surge_mm.utils.errors import UsageError


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


def num_classes(model: Any) -> int | None:
    """Return the number of classes of a detector, None if its head has none."""
    head = getattr(getattr(model, 'roi_head', model), 'bbox_head', None)
    return getattr(head[0] if isinstance(head, nn.ModuleList) else head, 'num_classes', None)
