"""Several processes.

Several processes run on one machine with gloo: a small binary classifier in float64, and `tools/train.py` with narrow
detectors of `configs` on digits, which write a checkpoint at each step.

- A rank that dies or fails is noticed at once by those that exchange gradients with it.
- A rank that hangs is noticed after `env_cfg.dist_cfg.timeout` seconds (600 by default).
- A rank that dies while the ranks form their group may be waited for up to five times as long, because gloo and PyTorch
  retry the connection.
- The other ranks then end with exit status 1 and a message that names `--resume`, also without a launcher.
- Under `tools/dist_train.sh`, torchrun ends the other ranks when one has ended. It waits 30 seconds before it kills
  ranks that do not react, and its exit status is 1.
- Training is refused if the epochs of the ranks have different lengths.

Times in the table are from the signal to the end of the last process. nccl was not tried.
"""

import os
import random
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.narrow import NARROW, digits_with_masks
from helpers.rank_cases import SETTINGS, difference
from helpers.rank_runs import (
    Ranks,
    be_rank,
    free_port,
    kept,
    launch,
    take_boxes,
    wait_for,
    write_config,
)

from surge_mm.launch.distributed import lost_a_rank

TIMEOUT = 10  # seconds of env_cfg.dist_cfg.timeout
TRIES = 5  # how many times the timeout a rank is waited for that died while they met, at most
BUSY = 20  # seconds that a step, a save or the end of a process may take on a busy machine
TORCHRUN = 30  # seconds that torchrun waits before it kills
SMALL = {'train_dataloader.dataset.pipeline.2.scale': (64, 64)}
ENDLESS = {
    **SMALL,
    'env_cfg.dist_cfg.timeout': TIMEOUT,
    'val_cfg': None,
    'val_dataloader': None,
    'val_evaluator': None,
}
FCOS = 'fcos-1bit_r18_fpn'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return digits_with_masks(tmp_path_factory.mktemp('digits'))


def test_ranks_agree_with_one_process_on_the_joined_batch(tmp_path, record):
    differences = [
        difference(world_size, tmp_path, settings, seed)
        for seed, world_size in ((1, 2), (2, 4))
        for settings in SETTINGS.values()
    ]
    assert max(differences) < 1e-10
    record(
        f'2 and 4 ranks against one process on the joined batch, 20 steps in float64: {", ".join(SETTINGS)}, with '
        'sync=True',
        len(differences),
        f'all ranks equal to the bit, from the one process at most {max(differences):.0e}',
    )


def test_detectors_of_ranks_without_boxes_stay_equal(tmp_path, record):
    families = list(NARROW)
    for i, family in enumerate(families):
        empty, sync = ([2], [0, 1, 3])[i % 2], i % 4 < 2
        folder = tmp_path / family
        digits = digits_with_masks(folder / 'digits')
        take_boxes(digits / 'annotations/train.json', 4, empty)
        settings = {**SMALL, 'custom_hooks.0.sync': sync, 'train_dataloader.batch_size': 1}
        if family.startswith('ssd'):
            del settings['train_dataloader.dataset.pipeline.2.scale']  # its anchors need 128 pixels
        if family.startswith('rtmdet'):
            settings['model.use_syncbn'] = False  # needs GPUs
        path = write_config(folder, family, digits, 2, settings)
        with Ranks(4, folder, path) as ranks:
            assert ranks.wait(seconds=240) == [0] * 4, (family, ranks.said(2)[-2000:])
        assert kept(folder, 4).isfinite().all(), family
    record(
        'families of detectors on 4 ranks, one or three of them without boxes, sync on or off',
        len(families),
        'each step taken, losses finite, parameters of all ranks equal to the bit',
    )


def struck(folder, digits, number, generator, begun, limit):
    """Send one random rank of four the signal; return how the others ended, and the seconds until then."""
    path = write_config(
        folder, FCOS, digits, 10_000, {**ENDLESS, 'custom_hooks.0.sync': generator.random() < 0.5}
    )
    rank = generator.randrange(4)
    with Ranks(4, folder, path) as ranks:
        if begun:
            wait_for(folder / 'run/iter_1.pth')
        time.sleep(generator.uniform(0, 6 if begun else 1))
        ranks.signal(rank, number)
        since = time.monotonic()
        status = ranks.wait(rank, seconds=limit)
        seconds = time.monotonic() - since
        others = [other for other in range(4) if other != rank]
        assert all('--resume to continue' in ranks.said(other) for other in others)
    return status, seconds


@pytest.mark.parametrize(
    'what, number, begun, times',
    [
        ('killed while they start', signal.SIGKILL, False, 3),
        ('killed while they train', signal.SIGKILL, True, 5),
        ('stopped while they train', signal.SIGSTOP, True, 2),
    ],
)
def test_the_others_end_when_one_rank_is_lost(what, number, begun, times, digits, tmp_path, record):
    generator = random.Random(what)
    worst, limit = 0.0, (1 if begun else TRIES) * TIMEOUT + BUSY
    for i in range(times):
        folder = tmp_path / str(i)
        folder.mkdir()
        status, seconds = struck(folder, digits, number, generator, begun, limit)
        assert status == [1] * 3
        worst = max(worst, seconds)
    record(
        f'one of 4 ranks {what}, nobody to end the others; timeout {TIMEOUT} s',
        times,
        f'the others ended with an error within {worst:.1f} s (limit {limit} s)',
    )


def _meet(rank, port, timeout):
    be_rank(rank, 4, port)
    try:
        dist.init_process_group('gloo', timeout=timedelta(seconds=timeout))
        group = dist.new_group(timeout=timedelta(seconds=timeout))
        while True:
            dist.all_reduce(torch.ones(1), group=group)
    except RuntimeError as error:
        sys.exit(3 if lost_a_rank(error) else 4)


def test_rank_lost_while_they_meet_is_known_as_lost(record):
    generator, context = random.Random(0), mp.get_context('fork')
    timeout, times, worst = 2, 16, 0.0
    limit = TRIES * timeout + BUSY
    for i in range(times):
        port = free_port()
        ranks = [context.Process(target=_meet, args=(rank, port, timeout)) for rank in range(4)]
        for rank in ranks:
            rank.start()
        time.sleep(generator.uniform(0, 0.04))
        lost = ranks.pop(i % 4)
        lost.kill()
        since = time.monotonic()
        for rank in ranks:
            rank.join(max(0, since + limit - time.monotonic()))
        worst = max(worst, time.monotonic() - since)
        status = [rank.exitcode for rank in ranks]
        for rank in ranks:
            rank.kill()
        assert status == [3] * 3, f'rank {i % 4} lost'
    assert worst > timeout, 'all were killed after they had met'
    record(
        f'one of 4 processes killed while they make their groups; timeout {timeout} s',
        times,
        f'the others ended with an error that is known as a lost rank within {worst:.1f} s (limit {limit} s)',
    )


def children(process):
    return list(
        map(int, Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split())
    )


def test_launched_run_ends_when_a_rank_is_lost_and_resume_goes_on(digits, tmp_path, record):
    generator = random.Random(0)
    path = write_config(tmp_path, FCOS, digits, 10_000, ENDLESS)
    for number, name, limit in (
        (signal.SIGKILL, 'killed', TORCHRUN + BUSY),
        (signal.SIGSTOP, 'stopped', TIMEOUT + TORCHRUN + BUSY),
    ):
        before = set(tmp_path.glob('run/*.pth'))
        run = launch(4, tmp_path, path, *(['--resume'] if before else []))
        while not set(tmp_path.glob('run/*.pth')) - before:
            assert run.poll() is None, (tmp_path / 'launched.txt').read_text()[-3000:]
            time.sleep(0.01)
        ranks = children(run)
        time.sleep(generator.uniform(0, 2))
        os.kill(generator.choice(ranks), number)
        since = time.monotonic()
        assert run.wait(limit) == 1
        seconds = time.monotonic() - since
        assert '--resume to continue' in (tmp_path / 'launched.txt').read_text()
        assert not any(Path(f'/proc/{rank}').exists() for rank in ranks)
        record(
            f'one of 4 ranks of tools/dist_train.sh {name}; timeout {TIMEOUT} s',
            1,
            f'all ended with exit status 1 within {seconds:.1f} s (limit {limit} s)',
        )
    last = int((tmp_path / 'run/last_checkpoint').read_text().rpartition('_')[2][:-4])
    steps = f'train_cfg.max_iters={last + 2}'
    assert launch(4, tmp_path, path, '--resume', '--cfg-options', steps).wait(240) == 0
    losses = kept(tmp_path, 4)
    assert losses.shape[1] == last + 2 and losses.isfinite().all()
    record(
        'the same run resumed by tools/dist_train.sh after each, at last to its end',
        2,
        f'{last + 2} steps in all, parameters of all ranks equal to the bit',
    )


def test_launched_two_stage_detector_keeps_its_ranks_equal(digits, tmp_path, record):
    path = write_config(
        tmp_path, 'faster-rcnn-1bit_r18_fpn', digits, 4, {**SMALL, 'custom_hooks.0.sync': True}
    )
    assert launch(4, tmp_path, path).wait(400) == 0, (tmp_path / 'launched.txt').read_text()[-3000:]
    assert kept(tmp_path, 4).isfinite().all()
    record(
        'Faster R-CNN by tools/dist_train.sh on 4 ranks, sync=True, with evaluation',
        1,
        'losses finite, parameters of all ranks equal to the bit',
    )
