"""Checks before the first step that concern all ranks."""

from types import SimpleNamespace

import pytest
from mmengine.runner import EpochBasedTrainLoop

from surge_mm.launch.distributed import check_batches
from surge_mm.utils.errors import LaunchError


def test_an_epoch_without_batches_is_refused():
    loop = object.__new__(EpochBasedTrainLoop)
    check_batches(SimpleNamespace(train_loop=loop, train_dataloader=[1]))
    with pytest.raises(LaunchError, match='train_dataloader has no batch'):
        check_batches(SimpleNamespace(train_loop=loop, train_dataloader=[]))
