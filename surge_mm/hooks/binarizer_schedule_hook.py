"""Schedule of binarizers whose surrogate gradient changes during training."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner

from surge_mm.hooks.layer_hook import LayerHook
from surge_mm.layers import scheduled_binarizers
from surge_mm.ops import Scheduled
from surge_mm.registry import HOOKS


@HOOKS.register_module()
class BinarizerScheduleHook(LayerHook):
    """Set the training progress of the binarizers EDE, ReSTE, Libra, ReCU and AdaBin before each iteration.

    The progress is 0 at the first iteration of the run and 1 at the last, in epoch-based and iteration-based loops. It
    depends on the number of the iteration only, so that a resumed run continues the schedule.

    Raises:
        UsageError: at the start of training, if the model has no binarizer with a schedule.
    """

    def __init__(self) -> None:
        self._binarizers: list[Scheduled] = []
        self._last = 1

    def before_train(self, runner: Runner) -> None:
        """Collect the binarizers with a schedule."""
        self._binarizers = scheduled_binarizers(runner.model)
        if not self._binarizers:
            self.report_no_layers(
                runner,
                'no binarizer of the model has a schedule. Remove the hook from custom_hooks, '
                "or use a binarizer with a schedule, such as activation=dict(type='EDE')",
            )
        self._last = max(runner.max_iters - 1, 1)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the progress of all binarizers.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Not used.
            data_batch (Any): Not used.
        """
        progress = min(runner.iter / self._last, 1.0)
        for binarizer in self._binarizers:
            binarizer.follow(progress)
