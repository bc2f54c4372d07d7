"""Checks before the first step that concern all ranks."""

import os
import re
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.bad_runs import WHOLE
from helpers.rank_runs import free_port
from helpers.tools import TOOLS
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop

from surge_mm.launch.distributed import check_batches, prepare_ranks
from surge_mm.launch.runner import build_runner
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


@pytest.fixture
def group_of_one(monkeypatch):
    """Let the only rank of a group of one start, without a GPU."""
    environment = {'RANK': 0, 'LOCAL_RANK': 0, 'WORLD_SIZE': 1, 'MASTER_ADDR': '127.0.0.1'}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_a_busy_port_is_named_with_the_variable_that_sets_it(group_of_one, monkeypatch):
    with socket.socket() as busy:
        busy.bind(('', 0))
        busy.listen()
        port = busy.getsockname()[1]
        monkeypatch.setenv('MASTER_PORT', str(port))
        with pytest.raises(LaunchError, match=f'port {port}, .* is in use .* set MASTER_PORT'):
            prepare_ranks(Config({'launcher': 'pytorch'}))


def test_synchronized_batch_norms_without_a_gpu_are_named_with_the_settings_that_replace_them(
    group_of_one, monkeypatch, tmp_path
):
    monkeypatch.setenv('MASTER_PORT', str(free_port()))
    norm = {'type': 'SyncBN'}
    model = {
        'type': 'ImageClassifier',
        'backbone': {
            'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 4, 'norm_cfg': norm
        },
        'head': {'type': 'LinearClsHead', 'num_classes': 2, 'in_channels': 32},
    }  # fmt: skip
    cfg = Config({**WHOLE, 'model': model, 'launcher': 'pytorch', 'work_dir': str(tmp_path)})
    cfg.experiment_name = 'synchronized'
    prepare_ranks(cfg)
    with pytest.raises(LaunchError, match='--cfg-options model.backbone.norm_cfg.type=BN$'):
        build_runner(cfg)
    cfg.model.backbone.norm_cfg.type = 'BN'
    cfg.experiment_name = 'plain'
    build_runner(cfg)


@pytest.mark.parametrize('script, words', [('dist_train', ['a.py']), ('dist_test', ['a.py', 'b.pth'])])  # fmt: skip
def test_scripts_choose_a_free_port_and_name_one_that_is_in_use(script, words, tmp_path):
    (tmp_path / 'python').write_text(
        f'#!/bin/sh\n[ "$1" = - ] && exec {sys.executable} - || echo "$@"\n'
    )
    (tmp_path / 'python').chmod(0o755)

    def run(**environment):
        return subprocess.run(
            [TOOLS / f'{script}.sh', *words, '2'],
            env={'PATH': os.environ['PATH'], 'PYTHON': str(tmp_path / 'python'), **environment},
            capture_output=True,
            text=True,
        )

    ports = {re.search(r'--master_port=(\d+)', run().stdout)[1] for _ in range(2)}
    assert len(ports) == 2
    assert '--master_port=29500 ' in run(NNODES='2', NODE_RANK='1').stdout
    with socket.socket() as busy:
        busy.bind(('127.0.0.1', 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        refused = run(PORT=port)
        assert (refused.returncode, refused.stdout) == (1, '')
        assert f'error: PORT={port} cannot be used' in refused.stderr
        assert 'set PORT to a free port' in refused.stderr
        assert f'--master_port={port} ' in run(PORT=port, NNODES='2', NODE_RANK='1').stdout
