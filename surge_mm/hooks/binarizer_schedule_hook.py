"""Tells the binarisers whose surrogate changes over training how far the training is."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from surge_mm.layers import BinaryLayer
from surge_mm.ops import Scheduled
from surge_mm.registry import HOOKS
from surge_mm.utils.errors import UsageError


@HOOKS.register_module()
class BinarizerScheduleHook(Hook):
    """Sets the progress of EDE, ReSTE, Libra, ReCU and AdaBin: 0 at the first iteration of the run, 1 at the last.

    It follows iterations, under an epoch-based loop as under an iteration-based one. A resumed run goes on where it
    was: the progress comes from the iteration alone.

    Raises:
        ValueError: at the start of training: the model has no binariser that changes, or the loop does not know how
            many iterations it will take.
    """

    priority = 'NORMAL'

    def __init__(self) -> None:
        self._binarizers: list[Scheduled] = []
        self._last = 1

    def before_train(self, runner: Runner) -> None:
        layers = [module for module in runner.model.modules() if isinstance(module, BinaryLayer)]
        both = [b for layer in layers for b in (layer.activation, layer.weight_binarizer)]
        self._binarizers = [binarizer for binarizer in both if isinstance(binarizer, Scheduled)]
        if not self._binarizers:
            used = sorted({type(binarizer).__name__ for binarizer in both})
            raise UsageError(
                'BinarizerScheduleHook: no binariser of the model changes over training '
                f'({", ".join(used) or "it has no binary layer"}). Remove the hook from custom_hooks, or use one that '
                "does, such as activation=dict(type='EDE')"
            )
        if not math.isfinite(runner.max_iters) or runner.max_iters < 1:
            raise UsageError(
                f'BinarizerScheduleHook: the training loop says max_iters={runner.max_iters!r}, so the schedule has '
                'no end to run to. Set max_epochs or max_iters in train_cfg'
            )
        self._last = max(int(runner.max_iters) - 1, 1)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        progress = min(runner.iter / self._last, 1.0)
        for binarizer in self._binarizers:
            binarizer.follow(progress)
