"""Checks before the first step that concern all ranks."""

import os
import subprocess
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from surge_mm.launch.distributed import check_batches, prepare_ranks
from surge_mm.utils.errors import LaunchError


def test_an_epoch_without_batches_is_refused():
    loop = object.__new__(EpochBasedTrainLoop)
    check_batches(SimpleNamespace(train_loop=loop, train_dataloader=[1]))
    with pytest.raises(LaunchError, match='train_dataloader has no batch'):
        check_batches(SimpleNamespace(train_loop=loop, train_dataloader=[]))


def test_ranks_of_slurm_meet_at_the_first_host_of_the_job(monkeypatch):
    slurm = {'PROCID': '3', 'NTASKS': '4', 'LOCALID': '1', 'NODELIST': 'node[7-8]'}
    for name, value in slurm.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')  # restored at the end
        monkeypatch.delenv(name)
    groups = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *a, **k: groups.append(a))
    hosts = SimpleNamespace(stdout='node7\nnode8\n')
    monkeypatch.setattr(subprocess, 'run', lambda command, **_: hosts)
    cfg = Config({'launcher': 'slurm'})
    prepare_ranks(cfg)
    assert groups == [('gloo',)]
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    assert [os.environ[name] for name in names] == ['3', '4', '1', 'node7', '29500']
    assert cfg.model_wrapper_cfg.device_ids is None
