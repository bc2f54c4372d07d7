"""What the ranks of one run owe each other, and how one speaks of another's loss."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner

from surge_mm.utils.errors import LaunchError

TIMEOUT = 600
"""Seconds, what PyTorch takes for nccl; gloo's own default would be half an hour."""


def check_equal_batches(runner: Runner) -> None:
    """Refuse epochs that end earlier on some ranks: their next steps would be taken with the others' last ones.

    Raises:
        LaunchError: the ranks have unequal numbers of batches.
    """
    if get_world_size() == 1 or not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    batches = all_gather_object(len(runner.train_dataloader))
    if len(set(batches)) > 1:
        raise LaunchError(
            f'train_dataloader has {min(batches)} batches an epoch on rank {batches.index(min(batches))} and '
            f'{max(batches)} on rank {batches.index(max(batches))}, and an epoch must end on all at once: set '
            "train_dataloader.sampler.round_up=True, MMEngine's default"
        )


def lost_a_rank(error: RuntimeError) -> bool:
    """Whether this rank fails because another one does not answer.

    Gloo's errors have no class of their own; their text names the source file. Its checks (ranks that send different
    things) are other errors.
    """
    text = str(error)
    of_gloo = '/gloo/transport/' in text and 'enforce fail' not in text
    return of_gloo or isinstance(error, torch.distributed.DistError)
