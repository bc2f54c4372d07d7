"""Configs of the new style, whose types are imported classes, and paths of classes as types, in every tool."""

import re
from pathlib import Path

import pytest
import torch
from helpers.new_style import write_new_style
from helpers.packed_files import trained_model
from helpers.tools import run_tool
from mmengine.config import Config

from surge_mm.datasets.digits import make_digits
from surge_mm.deploy import load_packed
from surge_mm.deploy.packed_file.format import read_packed

DEMO = Path(__file__).parents[2] / 'configs/demo/surge_fcos-1bit_r18-light_10e_digits.py'
LOADER = 'dict(num_workers=0, persistent_workers=False)'
NARROW = f"""_base_ = {str(DEMO)!r}
model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16), test_cfg=dict(score_thr=0.0))
train_dataloader = {LOADER}
val_dataloader = {LOADER}
test_dataloader = {LOADER}
train_cfg = dict(max_epochs=1)
"""
CLASSIFIER = """
from mmpretrain.models import ImageClassifier, LinearClsHead, ResNet
from mmpretrain.models import GlobalAveragePooling
from mmengine.optim import OptimWrapper
from torch.nn import BatchNorm2d
from surge_mm import Binarized, SurgeConv2d

model = dict(
    type=Binarized,
    base_type=ImageClassifier,
    binary=dict(type=SurgeConv2d, compensator=None),
    backbone=dict(type=ResNet, depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type=BatchNorm2d)),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=3, in_channels=64),
)
default_scope = None
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('user')
    make_digits(folder / 'data/digits', train=8, val=4, test=2, size=96)
    (folder / 'narrow.py').write_text(NARROW)
    write_new_style(folder / 'narrow.py', folder / 'new.py')
    return folder


def run(folder, *words):
    done = run_tool(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_detector_of_the_new_style_goes_through_all_tools(folder):
    run(folder, 'train', 'new.py')
    metrics = []
    for path in ('work_dirs/new/epoch_1.pth', 'new.safetensors'):
        if path.endswith('.safetensors'):
            said = run(folder, 'export', 'new.py', 'work_dirs/new/epoch_1.pth', path)
            assert '23 of 23 binary layers are packed' in said
            assert 'its outputs equal those of the checkpoint to the bit' in said
        said = run(folder, 'test', 'new.py', path)
        assert 'differs in' not in said
        metrics.append(re.findall(r'coco/\w+: \S+', said))
    assert len(metrics[0]) == 6 and metrics[0] == metrics[1]
    # the file names the classes as one from the usual style does
    stored = read_packed(folder / 'new.safetensors').config
    assert stored['default_scope'] == 'mmdet' and stored['model']['type'] == 'surge_mm.Binarized'
    assert stored['model']['backbone']['type'] == 'surge_mm.SurgeResNet'
    run(folder, 'detect', 'new.safetensors', 'data/digits/VOC2007/JPEGImages')
    run(folder, 'check_data', 'new.py')
    pytest.importorskip('onnx')
    run(folder, 'export', 'new.py', 'work_dirs/new/epoch_1.pth', 'new.onnx')


def test_operations_are_those_of_the_usual_style(folder):
    usual, new = (run(folder, 'get_ops', config, '--json') for config in ('narrow.py', 'new.py'))
    assert usual == new


@pytest.mark.timeout(240)
def test_methods_are_compared_over_a_config_of_the_new_style(folder):
    said = run(
        folder, 'ablation', 'new.py', '--methods', 'ste', '--seeds', '0', '--work-dir', 'all'
    )
    assert re.search(r'\| ste \(baseline\) \| 0\.\d+ \|', said)


def test_a_binarized_classifier_of_the_new_style_is_counted(folder):
    (folder / 'classifier.py').write_text(CLASSIFIER)
    said = run(folder, 'get_ops', 'classifier.py', '--shape', '64', '64')
    assert '16 of 21 layers are binary' in said


def test_paths_of_classes_are_packed_as_the_classes_that_they_name(folder, tmp_path):

    (folder / 'dotted.py').write_text(
        "_base_ = './narrow.py'\nmodel = dict(bbox_head=dict(loss_bbox=dict(type='mmdet.models.GIoULoss')),\n"
        "    neck=dict(type='mmdet.models.necks.FPN'))\n"
    )
    model = trained_model(Config.fromfile(folder / 'dotted.py'))
    torch.save({'state_dict': model.state_dict()}, folder / 'dotted.pth')
    said = run(folder, 'export', 'dotted.py', 'dotted.pth', 'dotted.safetensors')
    assert 'its outputs equal those of the checkpoint to the bit' in said
    stored = read_packed(folder / 'dotted.safetensors').config['model']
    assert (
        stored['neck']['type'] == 'FPN' and stored['bbox_head']['loss_bbox']['type'] == 'GIoULoss'
    )
    assert 'differs in' not in run(folder, 'test', 'dotted.py', 'dotted.safetensors')


def test_a_class_that_no_registry_has_is_packed_by_its_path(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / 'unregistered.py').write_text(
        'from mmdet.models import FPN\n\n\nclass OwnNeck(FPN):\n    pass\n'
    )
    (folder / 'own.py').write_text(
        "_base_ = './narrow.py'\nmodel = dict(neck=dict(type='unregistered.OwnNeck'))\n"
    )
    model = trained_model(Config.fromfile(folder / 'own.py'))
    torch.save({'state_dict': model.state_dict()}, folder / 'own.pth')
    run(folder, 'export', 'own.py', 'own.pth', 'own.safetensors')
    assert 'differs in' not in run(folder, 'test', 'own.py', 'own.safetensors')
    loaded = load_packed(folder / 'own.safetensors', allow=['unregistered.OwnNeck'])
    assert type(loaded.neck).__module__ == 'unregistered'
