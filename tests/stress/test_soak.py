"""Long run.

The demo's detector trains with SURGE for 2,000 steps, in the same way as `tools/train.py` trains it, with a checkpoint
and a validation every 250 steps. A validation keeps as many detections as it may (`score_thr=0`), so that each does the
same amount of work: otherwise the peak of memory grows with the number of detections.

Resident memory and open files of the training process are read every 25 steps, after Python's garbage collection and
`malloc_trim`. (Without the latter, the memory that the C library keeps varies by 20 MB, which is no leak.) Warm-up is
500 steps with 16 validations: each of the first ten or so adds about 1 MB while the heap settles, later ones add
nothing. After that, memory may grow by less than 1 MB in 1,000 steps, by a line fitted through the readings, and the
number of open files may not change.
"""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from surge_mm.datasets.digits import make_digits

ROOT = Path(__file__).parents[2]
STEPS, WARM, EVERY, EPOCH, VALIDATE = 2000, 500, 25, 125, 30


class Readings(Hook):
    priority = 'LOWEST'

    def __init__(self):
        self.steps, self.megabytes, self.files, self.losses = [], [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))
        if runner.iter < WARM - VALIDATE and (runner.iter + 1) % VALIDATE == 0:
            runner.val_loop.run()
            runner.model.train()
        if (runner.iter + 1) % EVERY == 0:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            pages = int(Path('/proc/self/statm').read_text().split()[1])
            self.steps.append(runner.iter + 1)
            self.megabytes.append(pages * os.sysconf('SC_PAGE_SIZE') / 1e6)
            self.files.append(len(os.listdir('/proc/self/fd')))


@pytest.mark.timeout(4800)
def test_memory_and_open_files_stay_flat_over_2000_steps(tmp_path, monkeypatch, record):
    monkeypatch.chdir(tmp_path)
    make_digits('data/digits')
    cfg = Config.fromfile(ROOT / 'configs/demo/surge_fcos-1bit_r18-light_10e_digits.py')
    cfg.work_dir = str(tmp_path / 'work')
    cfg.model.test_cfg.score_thr = 0
    cfg.train_cfg.update(max_epochs=STEPS // EPOCH, val_interval=2)
    cfg.param_scheduler[0].T_max = STEPS // EPOCH
    cfg.default_hooks.checkpoint.interval = 2
    readings = Readings()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(readings)
    runner.train()

    assert len(readings.losses) == STEPS and np.isfinite(readings.losses).all()
    steps, megabytes = np.array(readings.steps), np.array(readings.megabytes)
    warm = steps > WARM
    slope, _ = np.polyfit(steps[warm], megabytes[warm], 1) * 1000
    files = np.array(readings.files)[warm]
    print('MB every 25 steps:', megabytes.round(1).tolist())
    assert files.max() == files.min()
    assert slope < 1
    record(
        'steps of the demo detector',
        STEPS,
        f'{slope:+.2f} MB in 1,000 steps ({megabytes[warm].min():,.0f} to {megabytes[warm].max():,.0f} MB); '
        f'{files[0]} open files throughout; loss {np.mean(readings.losses[:50]):.2f} to '
        f'{np.mean(readings.losses[-50:]):.2f}',
    )
