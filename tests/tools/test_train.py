"""tools/train.py as a user runs it: from another folder, interrupted, resumed, on two ranks, in bfloat16."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from helpers.rank_runs import Ranks
from helpers.tools import run_tool
from helpers.user_folder import ROOT, main_of, make_user_folder, write
from mmengine.config import Config

from surge_mm.layers import SurgeConv2d
from surge_mm.utils.errors import LaunchError

ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_user_folder(tmp_path_factory.mktemp('user'))


def command(tool, *arguments):
    return [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)]


def run(folder, *words, timeout=240):
    environment = {**ENVIRONMENT, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'}
    return subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        # a shell that runs the tests in the background hands down a deaf ear to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def scalars(work_dir):
    return [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
    ]


def test_interrupted_run_resumes_and_is_evaluated(folder, monkeypatch):
    """Ctrl-C is pressed once, in the middle of the second of two epochs of six iterations."""
    work_dir = folder / 'interrupted'
    (folder / 'ctrl_c.py').write_text(
        'import os, pathlib, signal\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class CtrlC(Hook):\n'
        '    def before_train_iter(self, runner, batch_idx, data_batch=None):\n'
        "        pressed = pathlib.Path(runner.work_dir) / 'pressed'\n"
        '        if runner.iter == 8 and not pressed.exists():\n'
        '            pressed.touch()\n'
        '            os.kill(os.getpid(), signal.SIGINT)\n'
    )
    (folder / 'interrupted.py').write_text(
        "_base_ = 'mine.py'\n"
        "custom_imports = dict(imports=['surge_mm', 'ctrl_c'])\n"
        "custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook'), dict(type='CtrlC')]\n"
    )
    words = 'interrupted.py', '--work-dir', work_dir
    interrupted = run(folder, *command('train.py', *words))
    assert interrupted.returncode == 130, interrupted.stderr
    assert '--resume to continue' in interrupted.stderr
    assert (work_dir / 'epoch_1.pth').exists()
    assert not (work_dir / 'epoch_2.pth').exists()

    monkeypatch.syspath_prepend(folder)
    refused = run_tool('train', *words, folder=folder)
    assert refused.returncode == 1
    assert 'error: work dir' in refused.stderr and '--resume' in refused.stderr

    resumed = run_tool('train', *words, '--resume', folder=folder)
    assert resumed.returncode == 0, resumed.stderr
    (log, _) = [path.read_text() for path in sorted(work_dir.glob('*/*.log'))]
    _, _, start = log.partition('Epoch(train)')[0].rpartition('before the run:\n')
    assert start.startswith('  train_dataloader.dataset: 24 images, ')
    assert '  backbone: 16 of 21; in full precision: conv1.0, ' in start
    assert len(start.splitlines()) < 12  # below the dump of the config
    first, second = scalars(work_dir)
    steps = [line['step'] for line in second if 'loss' in line]
    assert steps == list(range(7, 13))
    assert 'coco/bbox_mAP_50' in second[-1]
    assert any('ags_lambda_mean' in line for line in second)

    tested = run_tool('test', 'mine.py', work_dir / 'epoch_2.pth', folder=folder)
    assert tested.returncode == 0, tested.stderr
    assert 'coco/bbox_mAP_50' in tested.stdout + tested.stderr


def test_two_ranks_end_with_the_same_parameters_and_evaluate(folder, monkeypatch):
    (folder / 'ranks.py').write_text(
        "_base_ = './mine.py'\n"
        "custom_imports = dict(imports=['surge_mm', 'rank_hook'])\n"
        "custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1, sync=True), "
        "dict(type='RankHook')]\n"
    )
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        monkeypatch.setitem(ENVIRONMENT, 'PORT', str(free.getsockname()[1]))
    work_dir = folder / 'ranks'
    done = run(folder, ROOT / 'tools/dist_train.sh', 'ranks.py', 2, '--work-dir', work_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(work_dir / f'rank{rank}.pt') for rank in (0, 1))
    for name, value in first.items():
        if 'running' not in name:  # batch statistics are each rank's own
            assert torch.equal(value, second[name]), name
    (log,) = scalars(work_dir)
    assert 'coco/bbox_mAP_50' in log[-1]
    assert len([line for line in log if 'loss' in line]) == 2 * 3

    # as dist_test.sh starts it
    with Ranks(2, folder, 'mine.py', work_dir / 'epoch_2.pth', tool='test') as ranks:
        assert ranks.wait() == [0, 0], ranks.said(0)
        assert 'coco/bbox_mAP_50: ' in ranks.said(0)


def test_a_second_training_in_one_work_dir_is_an_error_until_the_first_has_died(
    folder, monkeypatch, tmp_path
):
    """Killed by SIGKILL before its first checkpoint, the first leaves workers behind for some seconds."""
    (folder / 'wait_hook.py').write_text(
        'import pathlib, time\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class WaitHook(Hook):\n'
        '    def after_train_iter(self, runner, **kwargs):\n'
        "        pathlib.Path(runner.work_dir, 'waits').touch()\n"
        '        time.sleep(600)\n'
    )
    (folder / 'waiting.py').write_text(
        "_base_ = './mine.py'\n"
        "custom_imports = dict(imports=['surge_mm', 'wait_hook'])\n"
        "custom_hooks = [dict(type='WaitHook')]\n"
        'train_dataloader = dict(num_workers=1)\n'
    )
    environment = {**ENVIRONMENT, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}'}
    words = ['mine.py', '--work-dir', tmp_path]
    first = subprocess.Popen(
        command('train.py', 'waiting.py', *words[1:]),
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (tmp_path / 'waits').exists():
            assert first.poll() is None
            time.sleep(0.1)
        for resume in ([], ['--resume']):
            with pytest.raises(
                LaunchError, match=f"'{tmp_path}' is in use by another training.*--w"
            ):
                main_of('train', monkeypatch, folder, *words, *resume)
    finally:
        first.kill()
        first.wait()
    main_of('train', monkeypatch, folder, *words, '--cfg-options', 'train_cfg.max_epochs=1')
    assert (tmp_path / 'epoch_1.pth').is_file()


RTMDET = """
_base_ = ['mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py']
custom_imports = dict(imports=['surge_mm'])
runner_type = 'surge_mm.SafeRunner'
model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.RTMDet',
    backbone=dict(init_cfg=None),
    bbox_head=dict(num_classes=10),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root='data/digits/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='VOC2007/JPEGImages/'),
        metainfo=dict(classes=tuple('0123456789')),
        pipeline=pipeline,
    ),
)
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""


@pytest.mark.parametrize(
    'hooks, dropped',
    [
        ('', False),
        ('custom_hooks = [*_base_.custom_hooks, dict(type="surge_mm.ChannelsLastHook")]', False),
        ('custom_hooks = [dict(type="surge_mm.AdaptiveGradientScalerHook")]', True),
    ],
)
def test_a_recipe_of_the_host_gets_safe_hooks_by_one_line_and_lost_hooks_are_named(
    hooks, dropped, folder, monkeypatch, tmp_path
):
    (folder / 'rtmdet.py').write_text(RTMDET + hooks + '\n')
    main_of('train', monkeypatch, folder, 'rtmdet.py', '--work-dir', tmp_path)
    (log,) = tmp_path.glob('*/*.log')
    named = 'that do not run: EMAHook, PipelineSwitchHook. custom_hooks in' in log.read_text()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth')
    assert named == dropped == ('ema_state_dict' not in checkpoint)
    assert checkpoint['meta']['batches_an_epoch'] == 3  # of ExactResumeHook


def test_resume_in_the_config_resumes_as_the_option_does(folder, monkeypatch, tmp_path):
    """MMEngine's tool takes ``load_from`` for it, or the last checkpoint of the work dir."""
    work_dir, other = tmp_path / 'run', tmp_path / 'other'

    def train(*settings, work_dir=work_dir):
        options = ['--cfg-options', *settings]
        main_of('train', monkeypatch, folder, 'mine.py', '--work-dir', work_dir, *options)

    train('resume=True', 'train_cfg.max_epochs=1')  # nothing to resume yet
    first = work_dir / 'epoch_1.pth'
    written = first.stat().st_mtime_ns
    train('resume=True')
    train('resume=True', f'load_from={first}', work_dir=other)
    assert first.stat().st_mtime_ns == written
    for folder_of_run, expected in ((work_dir, ['epoch_1', 'epoch_2']), (other, ['epoch_2'])):
        assert [file.stem for file in sorted(folder_of_run.glob('*.pth'))] == expected
        assert torch.load(folder_of_run / 'epoch_2.pth')['meta']['iter'] == 12
    with pytest.raises(LaunchError, match='holds a run already'):
        train('resume=True', f'load_from={first}', work_dir=other)

    weights = tmp_path / 'weights.pth'
    torch.save({'state_dict': torch.load(first)['state_dict']}, weights)
    (folder / 'resuming.py').write_text("_base_ = './mine.py'\nresume = True\n")
    main_of('test', monkeypatch, folder, 'resuming.py', weights)


@pytest.fixture
def cpu_alone(monkeypatch):
    """Return a function that says whether the CPU has units for bfloat16, on a machine that has no GPU."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    units = 'surge_mm.launch.mixed_precision.has_bfloat16_units'
    return lambda found: monkeypatch.setattr(units, lambda: found)


@pytest.mark.skipif(torch.cuda.is_available(), reason='MMEngine would train on the GPU')
def test_amp_on_a_cpu_trains_in_bfloat16_and_resumes(folder, monkeypatch, tmp_path, cpu_alone):
    """The config asks for MMEngine's wrapper, which needs a GPU."""
    cpu_alone(True)
    write(folder, 'scaled.py', "optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0)")
    words = ['scaled.py', '--amp', '--work-dir', tmp_path]
    dtypes = set()
    forward = SurgeConv2d.forward

    def record(layer, x):
        out = forward(layer, x)
        if layer.training:
            dtypes.add(out.dtype)
        return out

    monkeypatch.setattr(SurgeConv2d, 'forward', record)
    for epochs, more in ((1, []), (2, ['--resume'])):
        options = [*more, '--cfg-options', f'train_cfg.max_epochs={epochs}']
        main_of('train', monkeypatch, folder, *words, *options)
        checkpoint = torch.load(tmp_path / f'epoch_{epochs}.pth')
        assert checkpoint['meta']['iter'] == 6 * epochs
    assert dtypes == {torch.bfloat16}
    saved = {value.dtype for value in checkpoint['state_dict'].values()}
    assert saved == {torch.float32, torch.int64}
    wrapper = Config.fromfile(tmp_path / 'scaled.py').optim_wrapper
    assert wrapper.type == 'surge_mm.CPUAmpOptimWrapper'


@pytest.mark.parametrize(
    'units, setting, message',
    [
        (False, '', '--amp: there is no GPU, and this CPU has neither AMX nor AVX512_BF16.*omit'),
        (True, "optim_wrapper = dict(dtype='float16')", "dtype='float16' is for GPUs.*bfloat16"),
    ],
)
def test_amp_on_a_cpu_that_gains_nothing_is_an_error(
    units, setting, message, folder, monkeypatch, cpu_alone
):
    cpu_alone(units)
    name = write(folder, 'float16.py', setting)
    with pytest.raises(LaunchError, match=message):
        main_of('train', monkeypatch, folder, name, '--amp')
