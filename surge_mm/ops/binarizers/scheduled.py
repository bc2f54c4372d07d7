"""Schedules of binarizers."""

from __future__ import annotations

import torch
from torch import Tensor


class Scheduled:
    """Mixin of the binarizers whose surrogate gradient changes over training.

    Their values do not change: the output of a trained network is independent of the progress. The hook
    ``surge_mm.BinarizerScheduleHook`` sets the progress; in another training loop, ``surge_mm.set_progress`` does.
    """

    _progress: float | None = None
    _restored: float | None = None
    _compiled_progress: Tensor | None = None

    def follow(self, progress: float) -> None:
        """Set how much of the training is done.

        Args:
            progress (float): 0 at the first step, 1 at the last.

        Raises:
            ValueError: if ``progress`` is not in 0 to 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f'progress={progress!r} must be in 0 to 1')
        self._progress = float(progress)
        self._compiled_progress = _scalar(progress)

    def restore(self, progress: float | None) -> None:
        """Set the progress of a loaded state dict, which counts until :meth:`follow` is called.

        Args:
            progress (float, optional): 0 at the first step, 1 at the last; None to forget it.
        """
        self._restored = progress
        if self._progress is None:
            self._compiled_progress = None if progress is None else _scalar(progress)

    @property
    def known_progress(self) -> float | None:
        """Return the progress, or None if it was neither set nor restored."""
        return self._restored if self._progress is None else self._progress

    @property
    def progress(self) -> float:
        """Return the share of the training that is done, 0 to 1: that of :meth:`follow`, or else of :meth:`restore`.

        Raises:
            RuntimeError: if it was never set.
        """
        progress = self.known_progress
        if progress is None:
            raise RuntimeError(
                f'{type(self).__name__} changes over training, and its progress was never set. Call '
                'surge_mm.set_progress(model, progress), from 0 to 1, before each step; under MMEngine, add '
                "dict(type='surge_mm.BinarizerScheduleHook') to custom_hooks"
            )
        return progress

    @property
    def progress_tensor(self) -> Tensor:
        """Return :attr:`progress` as a 0-dimensional tensor, float64, on the CPU.

        In code that ``torch.compile`` compiles, a Python number that changes from step to step is compiled again, and
        fails in a layer that is used twice.

        Raises:
            RuntimeError: if it was never set.
        """
        if torch.compiler.is_compiling() and self._compiled_progress is not None:
            return self._compiled_progress
        return _scalar(self.progress)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device='cpu')
