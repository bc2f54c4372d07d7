"""A segmentor of MMSegmentation, where it is installed: trained, evaluated, packed and run by the tools."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.documents import ROOT, blocks
from helpers.tools import run_tool
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from surge_mm.deploy import PackedConv2d, load_packed
from surge_mm.launch.runner import build_model
from surge_mm.layers import SurgeConv2d

apis = pytest.importorskip('mmseg.apis')

CONFIG = """
default_scope = 'mmseg'
custom_imports = dict(imports=['surge_mm'])
norm_cfg = dict(type='BN')
model = dict(
    type='surge_mm.Binarized',
    base_type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', mean=[99] * 3, std=[50] * 3, bgr_to_rgb=True, size=(64, 64)),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead', in_channels=64, channels=16, num_convs=1, in_index=3, num_classes=2,
        norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root='data', img_suffix='.png', seg_map_suffix='.png', pipeline=pipeline,
    metainfo=dict(classes=['dark', 'bright'], palette=[[0, 0, 0], [255, 255, 0]]),
    data_prefix=dict(img_path='images', seg_map_path='maps'))
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='InfiniteSampler'))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
    visualization=dict(type='SegVisualizationHook'))
visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
"""


def run(folder, *words):
    done = run_tool(*words, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_segmentor_is_trained_evaluated_packed_and_drawn(tmp_path):
    generator = np.random.default_rng(0)
    for name in ('images', 'maps'):
        (tmp_path / 'data' / name).mkdir(parents=True)
    for number in range(2):
        pixels = generator.integers(0, 256, (48, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'data/images/{number}.png')
        bright = (pixels.mean(2) > 128).astype(np.uint8)
        Image.fromarray(bright).save(tmp_path / f'data/maps/{number}.png')
    (tmp_path / 'mine.py').write_text(CONFIG)
    run(tmp_path, 'train', 'mine.py')
    checkpoint = 'work_dirs/mine/iter_2.pth'
    options = ['--out', 'maps.pkl', '--show-dir', 'pictures', '--work-dir', 'a']
    run(tmp_path, 'test', 'mine.py', checkpoint, *options)
    assert (tmp_path / 'maps.pkl').is_file() and list((tmp_path / 'pictures').rglob('*.png'))
    output = run(tmp_path, 'export', 'mine.py', checkpoint, 'mine.safetensors')
    assert 'its outputs equal those of the checkpoint to the bit' in output
    run(tmp_path, 'test', 'mine.py', 'mine.safetensors', '--work-dir', 'b')
    first, second = (
        json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in 'ab'
    )
    times = {'time', 'data_time'}
    assert {key: first[key] for key in first.keys() - times} == {
        key: second[key] for key in second.keys() - times
    }
    words = ['mine.safetensors', 'data/images', '--json', 'found.json', '--threads', '1']
    run(tmp_path, 'detect', *words)
    model = load_packed(tmp_path / 'mine.safetensors')
    assert sum(isinstance(module, PackedConv2d) for module in model.modules()) == 18
    found = json.loads((tmp_path / 'found.json').read_text())['results']
    for result in found:
        sample = apis.inference_model(model, str(tmp_path / result['file']))
        labels = sample.pred_sem_seg.data
        assert labels.shape == (1, 48, 80)
        shares = {one['class']: one['share'] for one in result['found']}
        for label, name in enumerate(('dark', 'bright')):
            expected = float((labels == label).float().mean())
            assert shares.get(name, 0) == pytest.approx(expected, abs=1e-6)
        drawn = np.asarray(Image.open(tmp_path / 'detections' / Path(result['file']).name))
        assert drawn.shape == (48, 80, 3)
        assert (drawn != np.asarray(Image.open(tmp_path / result['file']))).any()


def test_the_config_of_the_page_has_binary_convolutions_in_the_backbone_and_both_heads(tmp_path):
    (block,) = blocks(ROOT / 'docs/segmentation.md', 'python')
    (tmp_path / 'my_config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = build_model(cfg)
    binary = [name for name, module in model.named_modules() if isinstance(module, SurgeConv2d)]
    assert len([name for name in binary if name.startswith('backbone')]) == 16
    assert any(name.startswith('decode_head') for name in binary)
    assert any(name.startswith('auxiliary_head') for name in binary)
