"""A resumed run takes the steps that it would have taken had it never stopped."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from surge_mm.registry import HOOKS

STEP, DATA, EPOCH = range(3)


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Restores what MMEngine leaves out when it resumes: random generators, and the place within an epoch.

    - The generators of Python, NumPy and PyTorch are seeded anew for each training step and for each batch that is
      drawn, from the run's seed and the iteration alone (with ``randomness=dict(diff_rank_seed=True)`` from the rank
      too). So what is drawn does not depend on what was drawn before, by a validation for instance.
    - A checkpoint made within an epoch goes on there: the epoch's batches that were trained on are left out. MMEngine
      begins the epoch anew, and ends it behind its last iteration. So it does here too if the number of batches is
      another than before, as with another number of ranks. (An iteration-based loop skips batches by loading them.)

    Not restored: random augmentation in worker processes (``num_workers > 0``), which MMEngine seeds when it starts
    them, by their number; the counts of ``EarlyStoppingHook``; and the validation of an epoch whose checkpoint was
    written when the run was killed.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._sampler: _Batches | None = None
        self._batches: int | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint['meta']['batches_an_epoch'] = len(runner.train_dataloader)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            self._batches = checkpoint.get('meta', {}).get('batches_an_epoch')

    def before_train_epoch(self, runner: Runner) -> None:
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _seeded(loop.dataloader_iterator, _key(runner))
            return
        batches = len(loop.dataloader)
        done = runner.iter - runner.epoch * batches if self._batches == batches else 0
        self._batches = batches
        if self._sampler is None:
            self._sampler = _Batches(loop.dataloader.batch_sampler)
            # PyTorch lets nobody set it, for a loader that iterates would not notice; this one does not yet
            loop.dataloader.__dict__['batch_sampler'] = self._sampler
        self._sampler.skip = done
        self._sampler.before_batch = lambda number: reseed(
            *_key(runner), DATA, runner.epoch, number
        )
        reseed(*_key(runner), EPOCH, runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        reseed(*_key(runner), STEP, runner.iter)


def reseed(*key: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch by whole numbers of at least 0."""
    first, second = np.random.SeedSequence(key).generate_state(2)
    random.seed(int(first))
    np.random.seed(int(first))
    torch.manual_seed(int(second))


def _key(runner: Runner) -> tuple[int, int]:
    seed: int = runner.seed
    return seed, get_rank() if runner._randomness_cfg.get('diff_rank_seed') else 0


def _seeded(batches: Iterator[Any], key: tuple[int, int]) -> Iterator[Any]:
    """The same batches; the number of each seeds what it is drawn from."""
    for number in itertools.count():
        reseed(*key, DATA, number)
        yield next(batches)


class _Batches:
    """A batch sampler whose next pass leaves out the first ``skip`` batches; says the number of each before it."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.skip = 0
        self.before_batch: Callable[[int], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._sampler):
            if number >= self.skip:
                self.before_batch(number)
                yield batch
