"""A rank that is killed, hangs, fails or ends early ends the others with a message."""

import signal
import time

import pytest
import torch
from helpers.forkserver import FORKSERVER
from helpers.narrow import digits_with_masks
from helpers.rank_cases import leaves_a_layer_out, waits_for_the_norms
from helpers.rank_runs import Ranks, free_port, kept, wait_for, write_config
from mmengine.config import Config

from surge_mm.launch.distributed import prepare_ranks
from surge_mm.utils.errors import LaunchError

SMALL = {
    'train_dataloader.dataset.pipeline.2.scale': (64, 64),
    'val_cfg': None,
    'val_dataloader': None,
    'val_evaluator': None,
}


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return digits_with_masks(tmp_path_factory.mktemp('digits'))


def detector(folder, digits, steps=1000, **settings):
    return write_config(folder, 'fcos-1bit_r18_fpn', digits, steps, {**SMALL, **settings})


def test_killed_rank_ends_the_others_and_resume_goes_on(digits, tmp_path):
    path = detector(tmp_path, digits)
    with Ranks(3, tmp_path, path) as ranks:
        wait_for(tmp_path / 'run/iter_2.pth')
        ranks.signal(1, signal.SIGKILL)
        assert ranks.wait(seconds=20) == [1, -signal.SIGKILL, 1]
        for rank in (0, 2):
            (error,) = [line for line in ranks.said(rank).splitlines() if line.startswith('error')]
            assert f'rank {rank} lost touch with another rank' in error and '--resume' in error
    last = int((tmp_path / 'run/last_checkpoint').read_text().rpartition('_')[2][:-4])
    with Ranks(
        3, tmp_path, path, '--resume', '--cfg-options', f'train_cfg.max_iters={last + 2}'
    ) as ranks:
        assert ranks.wait() == [0, 0, 0], ranks.said(0)
    assert kept(tmp_path, 3).isfinite().all()


def test_hanging_rank_ends_the_others_after_the_timeout(digits, tmp_path):
    settings = {'env_cfg.dist_cfg.timeout': 3, 'custom_hooks.0.sync': True}
    with Ranks(2, tmp_path, detector(tmp_path, digits, **settings)) as ranks:
        wait_for(tmp_path / 'run/iter_2.pth')
        ranks.signal(1, signal.SIGSTOP)
        begun = time.monotonic()
        assert ranks.wait(1, seconds=20) == [1]
        assert time.monotonic() - begun > 2
        assert 'did not answer in time (env_cfg.dist_cfg.timeout' in ranks.said(0)


def test_norms_of_a_hanging_rank_are_not_waited_for_longer_than_anything_else():
    port = free_port()
    ranks = [FORKSERVER.Process(target=waits_for_the_norms, args=(rank, port)) for rank in (0, 1)]
    for rank in ranks:
        rank.start()
    ranks[0].join(20)
    for rank in ranks:
        rank.kill()
    assert ranks[0].exitcode == 0


@pytest.mark.parametrize(
    'sync, find_unused_parameters, ends',
    [(False, True, 0), (False, False, 1), (True, False, 1), (True, True, 1)],
)
def test_layer_left_out_on_one_rank_is_found_or_ends_both(sync, find_unused_parameters, ends):
    arguments = free_port(), sync, find_unused_parameters
    ranks = [
        FORKSERVER.Process(target=leaves_a_layer_out, args=(rank, *arguments)) for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(20)
    assert [rank.exitcode for rank in ranks] == [ends, ends]


def test_failing_data_of_one_rank_ends_the_others(digits, tmp_path):
    path = detector(tmp_path, digits_with_masks(tmp_path / 'own'))
    with Ranks(2, tmp_path, path) as ranks:
        wait_for(tmp_path / 'run/iter_1.pth')
        for image in sorted((tmp_path / 'own/VOC2007/JPEGImages').iterdir())[1::2]:
            image.write_bytes(b'')
        assert ranks.wait(seconds=20) == [1, 1]
        assert 'lost touch' in ranks.said(0) and 'lost touch' not in ranks.said(1)


def test_unequal_numbers_of_batches_are_refused(digits, tmp_path):
    settings = {
        'train_cfg': {'by_epoch': True, 'max_epochs': 2, '_delete_': True},
        'train_dataloader.sampler.round_up': False,
        'train_dataloader.batch_size': 5,
    }
    with Ranks(3, tmp_path, detector(tmp_path, digits, **settings)) as ranks:
        assert ranks.wait(seconds=30) == [1, 1, 1]
        assert 'error: train_dataloader has 2 batches an epoch on rank 2 and 3 on rank 0' in (
            ranks.said(0)
        )
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize(
    ('launcher', 'message'),
    [
        ('slurm', 'SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_NODELIST not set'),
        ('mpi', 'needs a GPU; without one use'),
        ('pytorch', 'RANK expected'),
    ],
)
def test_launchers_without_a_gpu_or_without_their_variables_are_refused(
    launcher, message, monkeypatch
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(LaunchError, match=message):
        prepare_ranks(Config({'launcher': launcher}))
