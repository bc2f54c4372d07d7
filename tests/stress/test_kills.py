"""Killed runs.

A run writes a checkpoint of 40 MB after each iteration, so that it spends much of its time writing, and keeps one
checkpoint. It is killed by SIGKILL at random moments and resumed each time. After each kill, the newest checkpoint must
load and contain every iteration that the run had reported as saved. At the end, the weights, the optimizer, the
schedules and the averaged model must equal those of an uninterrupted run to the bit.

A full disk is simulated by a limit of the system on the size of files, which takes effect in the middle of a
checkpoint. It must end the run with an error message, and the previous checkpoint must still exist and be resumed.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny_run import BATCHES, differences, state

from surge_mm.launch.resume import newest_checkpoint

TINY_RUN = Path(__file__).parents[1] / 'helpers/tiny_run.py'
KILLS, LENGTH = 30, 60
SETTING = {
    'length': LENGTH,
    'ballast': 5_000_000,
    'ema': True,
    'journal': True,
    'checkpoint': {'interval': 1, 'by_epoch': False, 'max_keep_ckpts': 1},
}


def begin(folder, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(TINY_RUN), str(folder), json.dumps(SETTING)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def journal(folder):
    """Return the iterations whose checkpoints the run has passed."""
    file = folder / 'journal'
    return [int(line) for line in file.read_text().split()] if file.is_file() else []


def wait_for_next(process, folder, known):
    while len(journal(folder)) == known:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)


@pytest.mark.timeout(1800)
def test_no_kill_loses_what_was_saved_or_changes_a_bit(tmp_path, record):
    rng = random.Random(0)
    folder = tmp_path / 'killed'
    in_writing = lost = 0
    for _ in range(KILLS):
        process = begin(folder)
        wait_for_next(process, folder, len(journal(folder)))
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        in_writing += any(folder.glob('.*.partial'))
        newest = newest_checkpoint(folder)
        reached = torch.load(newest, weights_only=True)['meta']['iter']
        lost += max(journal(folder)[-1] - reached, 0)
        assert reached < LENGTH * BATCHES, 'the run must be longer than the kills'
    assert lost == 0
    assert in_writing > 0
    for work_dir in (folder, tmp_path / 'whole'):
        process = begin(work_dir)
        said, _ = process.communicate()
        assert process.returncode == 0, said
    last = f'iter_{LENGTH * BATCHES}.pth'
    assert not differences(state(tmp_path / 'whole' / last), state(folder / last))
    record(
        'SIGKILL at a random moment',
        KILLS,
        f'{in_writing} of them while a checkpoint was written; {lost} saved iterations lost; the end equal to the bit '
        'to that of a run without kills',
    )


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(tmp_path, record):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, resource.RLIM_INFINITY))

    process = begin(tmp_path)
    wait_for_next(process, tmp_path, 0)
    process.kill()
    process.wait()
    before = newest_checkpoint(tmp_path)
    held = before.read_bytes()
    cases = 3
    for _ in range(cases):
        process = begin(tmp_path, preexec_fn=limit)
        said, _ = process.communicate()
        assert process.returncode == 1
        assert 'could not be written: File too large' in said and '--resume' in said
        assert 'Traceback' not in said
        assert newest_checkpoint(tmp_path) == before and before.read_bytes() == held
        assert not any(tmp_path.glob('.*.partial'))
    process = begin(tmp_path)
    wait_for_next(process, tmp_path, len(journal(tmp_path)))
    process.kill()
    assert os.path.getsize(newest_checkpoint(tmp_path)) > 20_000_000
    record(
        'no room for a checkpoint',
        cases,
        'an error in words; the checkpoint before as it was, and resumed',
    )
