"""Batches of sentences of similar length, which need little padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Sampler

from surge_mm.registry import DATA_SAMPLERS
from surge_mm.utils.argument_checks import Positive, checked


@DATA_SAMPLERS.register_module()
class LengthBatchSampler(Sampler[list[int]]):
    """Batch sampler for training, which groups items of similar length.

    The indices of the sampler are taken in windows of ``window`` batches. Each window is sorted by length and cut into
    batches, whose order is then drawn at random. The order depends on the seed and the epoch of the sampler alone: all
    ranks take batches of similar length at the same time, and a resumed run takes the same batches.

    Metrics of several ranks need the order of the data set. Evaluate without a batch sampler.

    Args:
        sampler (Sampler): MMEngine's DefaultSampler with ``shuffle=True``, on a data set with ``lengths``, such as
            :class:`surge_mm.GlueDataset`.
        batch_size (int): Number of items of a batch.
        drop_last (bool): Whether to leave out the last items if they are less than a batch. Defaults to False.
        window (int): Number of batches that are sorted together. Defaults to 50.

    Raises:
        ValueError: if the sampler does not shuffle, or its data set has no ``lengths``.
    """

    @checked
    def __init__(
        self, sampler: Any, batch_size: Positive, drop_last: bool = False, window: Positive = 50
    ) -> None:
        if not getattr(sampler, 'shuffle', False) or not hasattr(sampler, 'epoch'):
            raise ValueError(
                "LengthBatchSampler: sampler must be dict(type='DefaultSampler', shuffle=True). For an evaluation, "
                'leave out batch_sampler: its metrics need the order of the data set'
            )
        if not hasattr(sampler.dataset, 'lengths'):
            raise ValueError(
                f'LengthBatchSampler: the data set {type(sampler.dataset).__name__} has no lengths, as '
                'surge_mm.GlueDataset has. Leave out batch_sampler'
            )
        self.sampler = sampler
        self.batch_size, self.drop_last, self.window = batch_size, drop_last, window

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        lengths = self.sampler.dataset.lengths
        generator = torch.Generator().manual_seed(self.sampler.seed + self.sampler.epoch)
        indices = list(self.sampler)
        if self.drop_last:
            indices = indices[: len(self) * self.batch_size]
        step = self.window * self.batch_size
        for start in range(0, len(indices), step):
            chosen = sorted(indices[start : start + step], key=lambda index: lengths[index])
            batches = [
                chosen[i : i + self.batch_size] for i in range(0, len(chosen), self.batch_size)
            ]
            for number in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[number]
