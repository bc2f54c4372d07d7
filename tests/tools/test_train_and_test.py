"""The tools as a user runs them: from another folder, interrupted, resumed, on two ranks, and with bad input."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.rank_cases import Ranks
from helpers.tools import run_tool as run_in_process
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from surge_mm.datasets.digits import make_digits
from surge_mm.launch.cli import run as run_tool
from surge_mm.layers import SurgeConv2d
from surge_mm.utils.errors import DatasetError, LaunchError, UsageError

ROOT = Path(__file__).parents[2]
SURGE = ROOT / 'configs' / 'demo' / 'surge_fcos-1bit_r18-light_10e_digits.py'
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Make a folder with a small set of digits and a user's config that inherits from the demo's."""
    folder = tmp_path_factory.mktemp('user')
    make_digits(folder / 'data/digits', train=24, val=4, test=2, size=96)
    (folder / 'rank_hook.py').write_text(
        'import torch\n'
        'from mmengine.dist import get_rank\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class RankHook(Hook):\n'
        '    def after_train(self, runner):\n'
        "        torch.save(runner.model.state_dict(), f'{runner.work_dir}/rank{get_rank()}.pt')\n"
    )
    (folder / 'mine.py').write_text(
        f'_base_ = {str(SURGE)!r}\n'
        'train_cfg = dict(max_epochs=2, val_interval=2)\n'
        'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
        'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
        'test_dataloader = val_dataloader\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
        'model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64]))\n'
    )
    return folder


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
    refused = run_in_process('train', *words, folder=folder)
    assert refused.returncode == 1
    assert 'error: work dir' in refused.stderr and '--resume' in refused.stderr

    resumed = run_in_process('train', *words, '--resume', folder=folder)
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

    tested = run_in_process('test', 'mine.py', work_dir / 'epoch_2.pth', folder=folder)
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


def main_of(tool, monkeypatch, folder, *arguments):
    """Run a tool's main in this process, from ``folder``."""
    spec = importlib.util.spec_from_file_location(tool, ROOT / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, arguments)])
    module.main()


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


def write(folder, name, text):
    (folder / name).write_text(f'_base_ = {str(folder / "mine.py")!r}\n{text}\n')
    return name


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere.py'], r"config 'nowhere.py': there is no such file"),
        (['mine.py', '--amp', '--cfg-options', 'optim_wrapper=None'], 'optim_wrapper should be'),
        (['mine.py', '--resume', 'nowhere.pth'], r"--resume 'nowhere.pth': there is no such file"),
        (['mine.py', '--cfg-options', 'load_from=a.pth'], r"load_from 'a.pth': there is no such"),
        (['mine.py', '--cfg-options', 'default_scope=mmseg'], r"default_scope='mmseg'"),
        (
            ['mine.py', '--cfg-options', 'default_scope=mmpretrain'],
            r"type='CocoDataset' is not a dataset of default_scope='mmpretrain'",
        ),
        (
            ['mine.py', '--cfg-options', 'model.type=FCOSS'],
            r"FCOSS is not in the .*did you mean 'FCOS'",
        ),
        (['mine.py', '--cfg-options', 'optim_wraper.type=A'], r"did you mean 'optim_wrapper'"),
        (
            ['mine.py', '--cfg-options', 'optim_wrapper.optimizer.weight_decy=0.1'],
            r"unexpected keyword argument 'weight_decy'",
        ),
        (
            ['mine.py', '--cfg-options', 'custom_hooks.9.eta=1'],
            r'--cfg-options .*custom_hooks.9.eta',
        ),
        (['mine.py', '--cfg-options', 'custom_hooks=3'], r'custom_hooks=3 must be a list'),
        (
            ['mine.py', '--cfg-options', 'train_dataloader.dataset.annfile=a'],
            r"train_dataloader.dataset: .* did you mean 'ann_file'",
        ),
        (['mine.py', '--work-dir', 'mine.py'], r"work_dir 'mine.py' is a file"),
        (
            ['mine.py', '--launcher', 'pytorch'],
            r'environment variable \w+ expected, but not set. Start the tool with',
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message, folder, monkeypatch):
    with pytest.raises(UsageError, match=message):
        main_of('train', monkeypatch, folder, *arguments)


@pytest.mark.parametrize(
    'text, message',
    [
        (
            "model = dict(backbone=dict(conv_cfg=dict(activation=dict(type='AproxSign'))))",
            "did you mean 'ApproxSign'",
        ),
        ('model = dict(backbone=dict(conv_cfg=dict(compensator=dict(eta=-1))))', 'eta=-1'),
        ('model = dict(backbone=dict(conv_cfg=dict(compensator=dict(scale=1))))', 'not both'),
        ('model = dict(backbone=dict(depth=19))', 'depth=19'),
        ('custom_hooks = [dict(type="surge_mm.AdaptiveGradientScalerHook", eta=-1)]', 'eta=-1'),
        (
            "optim_wrapper = dict(optimizer=dict(lr='fast'))",
            "between instances of 'float' and 'str'",
        ),
        ('no_such_name', "cannot be read: NameError: name 'no_such_name'"),
        ('assert not 1', r'cannot be read: AssertionError: .*\(.*py:2\)'),
    ],
)
def test_bad_settings_are_refused_before_training(text, message, folder, monkeypatch, tmp_path):
    config = write(folder, 'bad.py', text)
    with pytest.raises(LaunchError, match=message):
        main_of('train', monkeypatch, folder, config, '--work-dir', tmp_path)
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize(
    'options, message',
    [
        ('train_dataloader.dataset.ann_file=annotations/no.json', 'annotations/no.json'),
        ('val_dataloader.dataset.data_prefix.img=pictures/', 'pictures'),
        ('train_dataloader.dataset.metainfo.classes=("cat","dog")', 'cat'),
    ],
)
def test_data_that_does_not_fit_is_refused_before_training(options, message, folder, monkeypatch):
    with pytest.raises(DatasetError, match=message):
        main_of('train', monkeypatch, folder, 'mine.py', '--cfg-options', options)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_broken_in_mid_training_is_named(folder, monkeypatch, tmp_path, workers):
    """The start does not decode images; the last of the six batches of the first epoch has the broken one."""
    shutil.copytree(folder / 'data', tmp_path / 'data')
    victim = sorted((tmp_path / 'data/digits/VOC2007/JPEGImages').iterdir())[23]
    victim.write_bytes(victim.read_bytes()[:-200])
    options = [
        f'train_dataloader.num_workers={workers}',
        'train_dataloader.sampler.shuffle=False',
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=5',
    ]
    words = [folder / 'mine.py', '--cfg-options', *options]
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda: main_of('train', monkeypatch, tmp_path, *words))
    message = str(ended.value)
    assert message.startswith(f"error: image 'data/digits/VOC2007/JPEGImages/{victim.name}' cannot")
    assert 'tools/check_data.py' in message and '\n' not in message
    assert (tmp_path / 'work_dirs/mine/iter_5.pth').is_file()


def test_check_data_decodes_each_image_and_lists_the_unusable_ones(
    folder, monkeypatch, tmp_path, capsys
):
    shutil.copytree(folder / 'data', tmp_path / 'data')
    main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py')
    streams = capsys.readouterr()
    assert streams.out == '' and 'train_dataloader.dataset: 24 images' in streams.err
    images = sorted((tmp_path / 'data/digits/VOC2007/JPEGImages').iterdir())
    val = images[24]  # behind 24 train images
    for image in (*images[:6], val):
        image.write_bytes(image.read_bytes()[:-200])
    images[6].unlink()
    with pytest.raises(DatasetError, match='8 images cannot be used'):
        main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rpartition('/')[2] for line in lines] == [
        *(image.name for image in images[:7]),
        val.name,
    ]
    with pytest.raises(DatasetError, match='1 images cannot be used'):
        main_of('check_data', monkeypatch, tmp_path, folder / 'mine.py', '--splits', 'val')


def test_checkpoint_that_does_not_fit_is_not_evaluated(folder, monkeypatch, tmp_path):
    cfg = Config.fromfile(folder / 'mine.py')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'good.pth')
    torch.save({'state_dict': {}}, tmp_path / 'empty.pth')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    with pytest.raises(LaunchError, match='does not match the model of the config'):
        main_of('test', monkeypatch, folder, 'mine.py', tmp_path / 'empty.pth')
    with pytest.raises(LaunchError, match='cannot be read'):
        main_of('test', monkeypatch, folder, 'mine.py', tmp_path / 'text.pth')
    deeper = write(folder, 'deeper.py', 'model = dict(backbone=dict(depth=34))')
    with pytest.raises(LaunchError, match='does not match the model'):
        main_of('test', monkeypatch, folder, deeper, tmp_path / 'good.pth')


def test_training_from_a_checkpoint_of_another_depth_is_refused(folder, monkeypatch, tmp_path):
    cfg = Config.fromfile(folder / 'mine.py')
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'r18.pth')
    deeper = write(
        folder,
        'from_r18.py',
        f"model = dict(backbone=dict(depth=34))\nload_from = '{tmp_path / 'r18.pth'}'",
    )
    with pytest.raises(UsageError, match='depth=34'):
        main_of('train', monkeypatch, folder, deeper, '--work-dir', tmp_path / 'work')


def test_training_from_a_checkpoint_of_which_nothing_fits_is_refused(folder, monkeypatch, tmp_path):
    torch.save({'state_dict': {'features.0.weight': torch.zeros(8, 3, 3, 3)}}, tmp_path / 'vgg.pth')
    begun = write(folder, 'from_vgg.py', f"load_from = '{tmp_path / 'vgg.pth'}'")
    with pytest.raises(LaunchError, match='does not match the model of the config'):
        main_of('train', monkeypatch, folder, begun, '--work-dir', tmp_path / 'work')
    wider = ['--cfg-options', 'model.bbox_head.feat_channels=32']
    cfg = Config.fromfile(folder / 'mine.py')
    cfg.merge_from_dict({'model.bbox_head.feat_channels': 48})
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'epoch_1.pth')
    with pytest.raises(LaunchError, match='does not match the model of the config in '):
        resume = ['--work-dir', tmp_path, '--resume', tmp_path / 'epoch_1.pth']
        main_of('train', monkeypatch, folder, 'mine.py', *resume, *wider)


def test_boxes_of_the_digits_are_resized_with_the_image(folder, monkeypatch):
    monkeypatch.chdir(folder)
    cfg = Config.fromfile('mine.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]['data_samples']
    raw = torch.tensor([i['bbox'] for i in dataset.get_data_info(0)['instances']])
    assert sample.scale_factor == pytest.approx((128 / 96, 128 / 96))
    boxes = sample.gt_instances.bboxes.tensor
    torch.testing.assert_close(boxes, raw * 128 / 96)
