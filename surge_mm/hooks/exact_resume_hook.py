"""Exact resumption: a resumed run takes the same steps as a run that was not interrupted."""

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
"""Purposes of random numbers, part of the key of each seed."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Restore what MMEngine does not restore on resumption: random generators, and the position within an epoch.

    - The generators of Python, NumPy and PyTorch are seeded before each training step and before each batch is sampled.
      The seed depends on the seed of the run and the number of the iteration (and on the rank, with
      ``randomness=dict(diff_rank_seed=True)``), so that it is independent of earlier random numbers, such as those of a
      validation.
    - Resumed from a checkpoint within an epoch, the run skips the batches of the epoch that were already trained on.
      MMEngine restarts the epoch, and therefore trains for too many iterations. If the number of batches per epoch has
      changed, for instance with the number of ranks, the epoch is restarted as by MMEngine. (In an iteration-based
      loop, MMEngine skips batches by loading them.)

    These are not restored: random augmentation in worker processes (``num_workers > 0``), which MMEngine seeds at their
    start; the counters of ``EarlyStoppingHook``; and the validation after an epoch whose checkpoint was being written
    when the run was killed.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._sampler: _SkippingSampler | None = None
        self._started_at: int | None = None  # iteration
        self._resumed: dict[str, Any] = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the number of batches per epoch, and how many of this epoch are done.

        Args:
            runner (Runner): Runner of the training.
            checkpoint (dict): Checkpoint to be saved. Its ``meta`` is changed in place.
        """
        meta = checkpoint['meta']
        meta['batches_an_epoch'] = len(runner.train_dataloader)
        if self._started_at is not None:
            meta['batches_done'] = meta['iter'] - self._started_at

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read where the interrupted run was.

        Args:
            runner (Runner): Runner of the training.
            checkpoint (dict): Loaded checkpoint.
        """
        if runner._resume:
            self._resumed = checkpoint.get('meta', {})

    def before_train_epoch(self, runner: Runner) -> None:
        """Skip the batches that were trained on before the interruption, and seed the generators for the epoch."""
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = _seeded(loop.dataloader_iterator, _key(runner))
            return
        batches = len(loop.dataloader)
        done = 0
        if self._resumed.get('batches_an_epoch') == batches:
            done = self._resumed.get('batches_done', runner.iter - runner.epoch * batches)
        self._resumed = {}
        self._started_at = runner.iter - done
        if self._sampler is None:
            self._sampler = _SkippingSampler(loop.dataloader.batch_sampler)
            # DataLoader.__setattr__ rejects a new batch_sampler; before the first iteration it is safe
            loop.dataloader.__dict__['batch_sampler'] = self._sampler
        self._sampler.skip = done
        self._sampler.before_batch = lambda number: reseed(
            *_key(runner), DATA, runner.epoch, number
        )
        reseed(*_key(runner), EPOCH, runner.epoch)

    def after_train_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Begin the count of the next epoch, before the checkpoints of this one are saved.

        Args:
            runner (Runner): Runner of the training.
            metrics (dict, optional): Not used. Defaults to None.
        """
        if self._started_at is not None:
            self._started_at = runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for the training step.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Not used.
            data_batch (Any): Not used.
        """
        reseed(*_key(runner), STEP, runner.iter)


def reseed(*key: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch.

    Args:
        *key (int): Nonnegative integers from which the seed is derived.
    """
    first, second = np.random.SeedSequence(key).generate_state(2)
    random.seed(int(first))
    np.random.seed(int(first))
    torch.manual_seed(int(second))


def _key(runner: Runner) -> tuple[int, int]:
    seed: int = runner.seed
    return seed, get_rank() if runner._randomness_cfg.get('diff_rank_seed') else 0


def _seeded(batches: Iterator[Any], key: tuple[int, int]) -> Iterator[Any]:
    """Yield the batches, and seed the generators by the number of each batch before it is loaded."""
    for number in itertools.count():
        reseed(*key, DATA, number)
        yield next(batches)


class _SkippingSampler:
    """Batch sampler that skips the first ``skip`` batches and calls ``before_batch`` with the number of each other."""

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
