"""What the first validation would fail on is an error before training."""

import random

import numpy as np
import pytest
import torch
from helpers.bad_runs import LOADER, WHOLE, MeanError, Points, refusal
from helpers.digits_configs import LOAD, coco
from mmengine.hooks import Hook

from surge_mm.datasets.digits import make_digits
from surge_mm.launch import first_validation
from surge_mm.registry import DATASETS, HOOKS


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp('digits')
    make_digits(folder / 'set', train=4, val=2, test=2, size=96)
    return folder


RESIZE = {'type': 'Resize', 'scale': (64, 64)}
META = ('img_id', 'img_path', 'img_shape', 'ori_shape', 'scale_factor')


def detector(folder, evaluator=None, meta_keys=META, score_thr=0.05, **default_hooks):
    """Return the config of a run of two steps of a small FCOS."""

    def loader(split):
        pack = {'type': 'PackDetInputs', 'meta_keys': meta_keys if split == 'val' else META}
        return {
            'batch_size': 2,
            'num_workers': 0,
            'dataset': coco(split, data_root=str(folder / 'set'), pipeline=[*LOAD, RESIZE, pack]),
            'sampler': {'type': 'DefaultSampler', 'shuffle': split == 'train'},
        }

    ann_file = str(folder / 'set/annotations/val.json')
    hooks = {**WHOLE['default_hooks'], **default_hooks}
    model = {
        'type': 'FCOS',
        'data_preprocessor': {'type': 'DetDataPreprocessor', 'pad_size_divisor': 32},
        'backbone': {'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 4, 'out_indices': (3,)},
        'neck': {'type': 'FPN', 'in_channels': [32], 'out_channels': 8, 'num_outs': 1},
        'bbox_head': {
            'type': 'FCOSHead', 'num_classes': 10, 'in_channels': 8, 'feat_channels': 8, 'stacked_convs': 1,
            'strides': [32], 'regress_ranges': ((-1, 1e8),), 'norm_cfg': None,
        },
        'test_cfg': {'score_thr': score_thr, 'nms': {'type': 'nms', 'iou_threshold': 0.5}, 'max_per_img': 9},
    }  # fmt: skip
    return {
        **WHOLE,
        'default_scope': 'mmdet',
        'model': model,
        'train_dataloader': loader('train'),
        'val_dataloader': loader('val'),
        'val_evaluator': {
            'type': 'CocoMetric',
            'ann_file': ann_file,
            'metric': 'bbox',
            **(evaluator or {}),
        },
        'default_hooks': hooks,
        'custom_hooks': [],
        'auto_scale_lr': None,
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 1e-3}},
    }


def checkpoint(**settings):
    return {**WHOLE['default_hooks']['checkpoint'], **settings}


@pytest.mark.parametrize(
    'settings, message',
    [
        (
            {'checkpoint': checkpoint(save_best='coco/bbox_map', rule='greater')},
            "save_best='coco/bbox_map'; did you mean 'coco/bbox_mAP'?",
        ),
        ({'meta_keys': ('img_id', 'scale_factor')}, 'image of val_dataloader gives KeyError: img_shape'),
        ({'evaluator': {'ann_file': None}}, 'ground truth is required for evaluation'),
        (
            {'early': {'type': 'EarlyStoppingHook', 'monitor': 'bbox_mAP', 'rule': 'greater', 'strict': True}},
            "EarlyStoppingHook: monitor='bbox_mAP'; did you mean 'coco/bbox_mAP'?",
        ),
    ],
)  # fmt: skip
def test_a_validation_that_would_fail_is_an_error_before_training(
    settings, message, digits, tmp_path
):
    assert message in refusal(detector(digits, **settings), tmp_path)
    assert not list(tmp_path.rglob('*.pth'))


@DATASETS.register_module()
class RandomPoints(Points):
    def __getitem__(self, index):
        return torch.rand(1) + random.random() + np.random.rand(), torch.ones(1)


@HOOKS.register_module()
class Draw(Hook):
    """Draw from each generator where the training begins."""

    drawn = []

    def before_train_epoch(self, runner):
        mode = runner.model.training
        self.drawn.append((torch.rand(1).item(), random.random(), np.random.rand(), mode))


def test_generators_and_model_stay_as_without_a_validation(tmp_path):
    loader = {**LOADER, 'dataset': {'type': 'surge_mm.RandomPoints'}}
    whole = {**WHOLE, 'val_dataloader': loader, 'custom_hooks': [{'type': 'surge_mm.Draw'}]}
    without = dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))
    assert [refusal(config, tmp_path) for config in (whole, {**whole, **without})] == [None, None]
    assert Draw.drawn[0] == Draw.drawn[1]


def test_a_metric_that_needs_more_than_one_image_is_a_warning(tmp_path, monkeypatch):
    compute = MeanError.compute_metrics
    monkeypatch.setattr(
        MeanError, 'compute_metrics', lambda self, found: compute(self, [found[0], found[1]])
    )
    warnings = []
    monkeypatch.setattr(first_validation, 'warn', warnings.append)
    assert refusal(WHOLE, tmp_path) is None
    assert warnings[0].startswith('val_evaluator fails on a single image: IndexError: ')


def test_a_validation_that_never_runs_is_not_checked(tmp_path):
    train_cfg = {**WHOLE['train_cfg'], 'val_begin': 2}
    evaluator = {**WHOLE['val_evaluator'], 'prefix': None}
    hooks = {**WHOLE['default_hooks'], 'checkpoint': checkpoint(save_best='no', rule='less')}
    config = {**WHOLE, 'val_evaluator': evaluator, 'default_hooks': hooks}
    assert "save_best='no'" in refusal(config, tmp_path)
    assert refusal({**config, 'train_cfg': train_cfg}, tmp_path) is None


def test_a_metric_chosen_by_auto_needs_a_rule(tmp_path):
    hooks = {**WHOLE['default_hooks'], 'checkpoint': checkpoint(save_best='auto')}
    said = refusal({**WHOLE, 'default_hooks': hooks}, tmp_path)
    assert "save_best='auto' chooses 'line/error'" in said and "rule='greater' or 'less'" in said


def test_names_of_metrics_are_taken(digits, tmp_path):
    save_best = checkpoint(save_best='coco/bbox_mAP', rule='greater')
    assert refusal(detector(digits, score_thr=0.0, checkpoint=save_best), tmp_path) is None
    assert list(tmp_path.rglob('best_coco_bbox_mAP_epoch_1.pth'))
