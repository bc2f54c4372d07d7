"""The progress of training, for binarizers whose surrogate gradient follows a schedule."""

from __future__ import annotations

from torch import nn

from surge_mm.layers.binary_embedding import BinaryEmbedding
from surge_mm.layers.learned_activation import LearnedActivation
from surge_mm.ops import Scheduled


def scheduled_binarizers(model: nn.Module) -> list[Scheduled]:
    """Return the binarizers of ``model`` that follow a schedule: of layers, embeddings and products of attention."""
    kinds = (LearnedActivation, BinaryEmbedding)
    both = [
        getattr(module, name, None)
        for module in model.modules()
        if isinstance(module, kinds)
        for name in ('activation', 'weight_binarizer')
    ]
    return [binarizer for binarizer in both if isinstance(binarizer, Scheduled)]


def set_progress(model: nn.Module, progress: float) -> None:
    """Set how much of the training of ``model`` is done, for all its binarizers that follow a schedule.

    Call it before each training step in a loop of your own. Under MMEngine, ``surge_mm.BinarizerScheduleHook`` does it.
    In a model without such binarizers it has no effect.

    Args:
        model (nn.Module): Model with binary layers, also inside a wrapper such as ``DistributedDataParallel``.
        progress (float): 0 at the first step, 1 at the last.

    Raises:
        ValueError: if ``progress`` is not in 0 to 1.

    Example:
        >>> for step in range(steps):
        ...     surge_mm.set_progress(model, step / max(steps - 1, 1))
    """
    if not 0 <= progress <= 1:
        raise ValueError(f'progress={progress!r} must be in 0 to 1')
    for binarizer in scheduled_binarizers(model):
        binarizer.follow(progress)
