"""tools/binarize.py and tools/sensitivity.py as a user runs them, on a few digits."""

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers.new_style import write_new_style
from helpers.tools import run_tool
from mmengine.config import Config
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample

from surge_mm.composition.binary_config import binary_layers
from surge_mm.datasets.digits import make_digits
from surge_mm.launch.runner import build_model
from surge_mm.layers import compensated_layers

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
PARTS = 'models/fcos_r18-light', 'datasets/digits_coco', 'schedules/digits_10e', 'default_runtime'
MINE = f"""
_base_ = {[str(CONFIGS / f'_base_/{part}.py') for part in PARTS]!r}
custom_imports = dict(imports=['json'])
data_root = 'data/digits/'
model = dict(backbone=dict(conv_cfg=None, base_channels=8), neck=dict(in_channels=[16, 32, 64], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16), test_cfg=dict(score_thr=0.0))
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
custom_hooks = [dict(type='surge_mm.ChannelsLastHook')]
"""


def save(config: Path, to: Path) -> None:
    torch.save({'state_dict': build_model(Config.fromfile(config)).state_dict()}, to)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Make a user's folder: digits, a full-precision config and a checkpoint."""
    folder = tmp_path_factory.mktemp('user')
    make_digits(folder / 'data/digits', train=8, val=4, test=2, size=96)
    (folder / 'mine.py').write_text(MINE)
    save(folder / 'mine.py', folder / 'mine.pth')
    return folder


def binarize(folder, *words):
    return run_tool('binarize', *words, folder=folder)


def test_written_config_starts_from_the_checkpoint_and_trains(folder):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = binarize(folder, 'mine.py', 'mine.pth', '--work-dir', 'out')
    assert done.returncode == 0, done.stderr
    assert '23 of 34 layers become binary' in done.stdout
    assert 'backbone.layer1.0.conv1' in done.stdout and 'default: tower, shortcut' in done.stdout
    assert 'OPs in M' in done.stdout and 'size in MB' in done.stdout
    written = folder / 'out/ste_mine.py'
    assert len(written.read_text().splitlines()) <= 20
    assert 'learning rate: 0.01 in place of 0.002' in done.stdout
    cfg = Config.fromfile(written)
    assert cfg.custom_imports['imports'] == ['json', 'surge_mm']
    assert cfg.custom_hooks == [{'type': 'surge_mm.ChannelsLastHook'}]

    model = build_model(cfg)
    assert not list(compensated_layers(model))
    model.init_weights()
    weights = torch.load(folder / 'mine.pth', weights_only=True)['state_dict']
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())

    trained = run_tool('train', 'out/ste_mine.py', folder=folder)
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert (folder / 'out/ste_mine/epoch_1.pth').is_file()
    assert before == {path: path.read_bytes() for path in before}


def layers_of(cfg):
    model = build_model(cfg)
    return [model.get_submodule(names[0]) for names in binary_layers(model)]


def test_config_is_read_from_another_folder_and_options_are_written(folder, tmp_path, monkeypatch):
    words = ('mine.py', 'mine.pth', '--work-dir', tmp_path, '--method', 'surge-recu')
    kept = ('neck.*', 'backbone.layer1.*', 'backbone.layer4.1.conv2')
    done = binarize(folder, *words, '--keep', *kept)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir('/')
    cfg = Config.fromfile(tmp_path / 'surge-recu_mine.py')
    assert Path(cfg.model.teacher.config) == (folder / 'mine.py').resolve()
    assert Path(cfg.model.teacher.checkpoint) == (folder / 'mine.pth').resolve()
    hooks = {hook.type for hook in cfg.default_hooks.values()}
    assert {
        'surge_mm.AdaptiveGradientScalerHook',
        'surge_mm.BinarizerScheduleHook',
        'surge_mm.SafeCheckpointHook',
    } <= hooks
    model = build_model(cfg)
    found = [names[0] for names in binary_layers(model)]
    assert len(found) == 20 - 4 - 1
    assert not [name for name in found if any(fnmatchcase(name, pattern) for pattern in kept)]
    weights = torch.load(folder / 'mine.pth', weights_only=True)['state_dict']
    assert set(weights) <= set(model.state_dict())
    layers = map(model.get_submodule, found)
    assert {type(layer.weight_binarizer).__name__ for layer in layers} == {'ReCU'}


TEACHERS = {
    'channels': (
        'neck=dict(out_channels=24), bbox_head=dict(in_channels=24)',
        r'teacher: its outputs of the neck have the shapes \[\(4, 24, .*model \[\(4, 16, ',
    ),
    'checkpoint': (
        None,
        r"teacher: config='.*teacher.py': checkpoint '.*mine.pth' does not match .*\(4, 3.*\(8, 3",
    ),
}


@pytest.mark.parametrize('case', TEACHERS)
def test_training_with_a_teacher_that_does_not_match_ends_with_one_line(case, folder, tmp_path):
    change, message = TEACHERS[case]
    teacher, checkpoint = tmp_path / 'teacher.py', folder / 'mine.pth'
    lines = change or 'backbone=dict(base_channels=16), neck=dict(in_channels=[32, 64, 128])'
    teacher.write_text(f'_base_ = {str(folder / "mine.py")!r}\nmodel = dict({lines})\n')
    if change:
        checkpoint = tmp_path / 'teacher.pth'
        save(teacher, checkpoint)
    (tmp_path / 'student.py').write_text(
        f'_base_ = {str(folder / "mine.py")!r}\nmodel = dict(type="surge_mm.DistilledDetector", base_type="FCOS", '
        f'teacher=dict(config={str(teacher)!r}, checkpoint={str(checkpoint)!r}))\n'
    )
    done = run_tool('train', tmp_path / 'student.py', '--work-dir', tmp_path / 'run', folder=folder)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ') and re.search(message, last), last
    assert not list((tmp_path / 'run').rglob('*.pth'))


def test_all_but_the_backbone_can_be_kept(folder, tmp_path):
    words = ('mine.py', 'mine.pth', '--work-dir', tmp_path, '--keep', '*')
    with mock.patch('surge_mm.composition.binary_config.warn') as warn:
        done = binarize(folder, *words)
    assert done.returncode == 0, done.stderr
    assert '16 of 34 layers become binary' in done.stdout
    assert (
        "keep: '*' does not reach the binary layers of the backbone (back" in warn.call_args[0][0]
    )
    cfg = Config.fromfile(tmp_path / 'ste_mine.py')
    assert cfg.model.type == 'surge_mm.DistilledDetector' and 'shortcuts' not in cfg.model
    found = [names[0] for names in binary_layers(build_model(cfg))]
    assert len(found) == 16 and all(name.startswith('backbone.layer') for name in found)


def test_a_whole_backbone_can_be_kept(folder, tmp_path):
    done = binarize(folder, 'mine.py', 'mine.pth', '--work-dir', tmp_path, '--keep', 'backbone*')
    assert done.returncode == 0, done.stderr
    cfg = Config.fromfile(tmp_path / 'ste_mine.py')
    found = [names[0] for names in binary_layers(build_model(cfg))]
    assert len(found) == 7 and not any(name.startswith('backbone') for name in found)


def test_existing_file_is_replaced_on_request_only(folder, tmp_path):
    path = tmp_path / 'ste_mine.py'
    path.write_text('a = 1\n')
    words = ('mine.py', 'mine.pth', '--work-dir', tmp_path)
    done = binarize(folder, *words)
    assert done.returncode == 1 and 'exists already' in done.stderr
    assert path.read_text() == 'a = 1\n'
    assert binarize(folder, *words, '--overwrite').returncode == 0
    assert 'surge_mm.DistilledDetector' in path.read_text()


def test_config_of_a_host_unfreezes_and_needs_no_download(tmp_path):
    name = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
    (tmp_path / 'same.py').write_text(f'_base_ = {name!r}\n')
    save(tmp_path / 'same.py', tmp_path / 'a.pth')
    done = binarize(tmp_path, name, 'a.pth', '--work-dir', 'out', '--shape', 64, 64)
    assert done.returncode == 0, done.stderr
    cfg = Config.fromfile(tmp_path / 'out/ste_retinanet_r18_fpn_1x_coco.py')
    assert cfg.runner_type == 'surge_mm.SafeRunner' and cfg.load_from is None
    backbone = cfg.model.backbone
    assert not backbone.norm_eval and backbone.frozen_stages == -1 and backbone.init_cfg is None
    assert len(layers_of(cfg)) == 16 + 5 + 8
    assert Path(cfg.model.teacher.config).is_file()


@pytest.mark.parametrize(
    'head, taught', [('LinearClsHead', True), ('MultiLabelLinearClsHead', False)]
)
def test_classifier_starts_from_its_checkpoint_and_is_taught_if_its_output_is_one_softmax(
    head, taught, tmp_path
):
    base = "_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'\n"
    loss = '' if taught else ", loss=dict(type='CrossEntropyLoss', use_sigmoid=True), topk=None"
    (tmp_path / 'mine.py').write_text(f'{base}model = dict(head=dict(type={head!r}{loss}))\n')
    save(tmp_path / 'mine.py', tmp_path / 'a.pth')
    done = binarize(tmp_path, 'mine.py', 'a.pth', '--work-dir', 'out', '--shape', 32, 32)
    assert done.returncode == 0, done.stderr
    assert ('no teacher: the model: the probabilities of its head' in done.stdout) == (not taught)
    cfg = Config.fromfile(tmp_path / 'out/ste_mine.py')
    assert cfg.model.type == 'surge_mm.Binarized' and cfg.load_from == str(tmp_path / 'a.pth')
    assert len(layers_of(cfg)) == 16
    if taught:
        model = build_model(cfg)
        images = torch.randn(2, 3, 32, 32)
        weights = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
        teacher = model.teacher.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in teacher.items())
        assert set(model.loss(images, [DataSample()] * 2)) == {'loss_distill'}


def test_full_precision_model_with_shortcuts_gives_the_binary_one(folder, tmp_path):
    (tmp_path / 'same.py').write_text(
        f'_base_ = {str(folder / "mine.py")!r}\n'
        "model = dict(type='surge_mm.Binarized', base_type='FCOS', structure_only=True, shortcuts=True)\n"
    )
    done = binarize(tmp_path, 'same.py', folder / 'mine.pth', '--work-dir', 'out')
    assert done.returncode == 0, done.stderr
    cfg = Config.fromfile(tmp_path / 'out/ste_same.py')
    assert cfg.model.type == 'surge_mm.DistilledDetector' and cfg.model.shortcuts
    assert len(layers_of(cfg)) == 23


def test_config_of_the_new_style_is_written_as_a_whole(folder, tmp_path):
    config = write_new_style(folder / 'mine.py', tmp_path / 'new.py')
    done = binarize(folder, config, 'mine.pth', '--work-dir', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    cfg = Config.fromfile(tmp_path / 'out/ste_new.py')
    assert cfg.model.type == 'surge_mm.DistilledDetector' and cfg.data_root == 'data/digits/'
    assert cfg.model.teacher.config == str(config)
    assert len(layers_of(cfg)) == 23


@pytest.mark.parametrize(
    'tool, words, message',
    [
        ('binarize', ['no.py', 'mine.pth'], "config 'no.py': there is no such file"),
        ('binarize', ['mmdet::retinanet/no.py', 'mine.pth'], "config 'mmdet::retinanet/no.py'"),
        ('binarize', ['mine.py', 'no.pth'], "checkpoint 'no.pth': there is no such file"),
        (
            'binarize',
            ['mine.py', 'mine.pth', '--method', 'surg'],
            "--method 'surg' .* did you mean 'surge'",
        ),
        ('binarize', ['mine.py', 'mine.pth', '--method', 'fp'], "--method 'fp' .* no binary"),
        ('binarize', ['mine.py', 'mine.pth', '--shape', 0, 9], '--shape 0 9 must be at least 1'),
        ('binarize', ['mine.py', 'mine.pth', '--keep', 'nec.*'], r"name='nec\.\*'.* no layer"),
        (
            'binarize',
            ['wide.py', 'mine.pth'],
            r"checkpoint '.*mine.pth' does not match the model .*\(4, .*\(8, ",
        ),
        ('binarize', ['binary.py', 'mine.pth'], "config '.*binary.py': 16 of its layers are bin"),
        ('binarize', ['line.py', 'mine.pth'], 'does not match the model'),
        ('sensitivity', ['mine.py', 'mine.pth', '--images', 0], '--images 0 must be at least 1'),
        ('sensitivity', ['no_val.py', 'mine.pth'], "config 'no_val.py' has no val_dataloader"),
        ('sensitivity', ['wide.py', 'mine.pth'], 'does not match the model'),
        ('sensitivity', ['binary.py', 'mine.pth'], '16 of its layers are binary'),
    ],
)
def test_bad_input_is_an_error_before_time_is_spent(folder, tool, words, message):
    variants = {
        'wide': 'model = dict(backbone=dict(base_channels=16), neck=dict(in_channels=[32, 64, 128]))',
        'binary': "model = dict(backbone=dict(conv_cfg=dict(type='surge_mm.SurgeConv2d')))",
        'no_val': 'val_dataloader = None\nval_cfg = None\nval_evaluator = None',
        'line': 'model = dict(bbox_head=dict(num_classes=3))',
    }
    for name, line in variants.items():
        line = line.replace('conv_cfg=dict(', 'conv_cfg=dict(_delete_=True, ')
        (folder / f'{name}.py').write_text(f"_base_ = './mine.py'\n{line}\n")
    done = run_tool(tool, *words, '--work-dir', 'bad', folder=folder)
    assert done.returncode == 1, done.stdout[-1000:] + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert re.search(message, last), last
    assert not (folder / 'bad').exists()


def test_a_wrong_metric_is_an_error_after_the_first_of_four_batches(folder):
    (folder / 'single.py').write_text("_base_ = './mine.py'\nval_dataloader = dict(batch_size=1)\n")
    words = ('single.py', 'mine.pth', '--work-dir', 'bad', '--metric', 'coco/bbox_map')
    with mock.patch.object(
        BaseModel, 'val_step', autospec=True, side_effect=BaseModel.val_step
    ) as step:
        done = run_tool('sensitivity', *words, folder=folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.search("error: --metric 'coco/bbox_map': .* coco/bbox_mAP", last), last
    assert step.call_count == 1 and not (folder / 'bad').exists()


@pytest.mark.parametrize('by, rows', [('layer', 23), ('block', 8 + 1 + 2)])
def test_report_has_each_layer_or_block_with_its_cost(folder, tmp_path, by, rows):
    (folder / 'few.py').write_text(
        "_base_ = './mine.py'\nval_dataloader = dict(dataset=dict(indices=1))\n"
    )
    words = ('few.py', 'mine.pth', '--work-dir', tmp_path, '--images', 5, '--by', by)
    done = run_tool('sensitivity', *words, folder=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / 'sensitivity.json').read_text())
    assert report['images'] == 8 and report['metric'] == 'coco/bbox_mAP' and report['by'] == by
    costs = [row['cost'] for row in report['costs']]
    assert costs == sorted(costs, reverse=True) and len(costs) == rows
    assert len({name for row in report['costs'] for name in row['layers']}) == 23
    for row in report['costs']:
        assert row['cost'] == report['calibrated']['metric'] - row['metric']
        assert row['name'] in done.stdout
    assert len({row['loss'] for row in report['costs']}) > rows // 2
    assert (tmp_path / 'sensitivity.png').read_bytes().startswith(b'\x89PNG')
