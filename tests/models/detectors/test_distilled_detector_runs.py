"""Runs of tools/train.py with a distilled detector."""

import torch
from helpers.distillation import (
    distill,
)
from helpers.narrow import config, digits_with_masks
from helpers.rank_runs import Ranks, kept, write_config
from mmengine.runner import Runner

NOWHERE = {'config': 'nowhere.py', 'checkpoint': 'nowhere.pth'}


def run_config(digits, folder, name):
    cfg = config('retinanet-1bit_r18_fpn', digits, folder / name)
    distill(cfg, folder)
    cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
    cfg.train_dataloader.batch_size = 2
    cfg.train_cfg.max_iters, cfg.train_cfg.val_interval = 4, 4
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.exact_resume = {'type': 'surge_mm.ExactResumeHook'}
    cfg.custom_hooks = [
        {'type': 'surge_mm.AdaptiveGradientScalerHook'},
        {'type': 'EMAHook', 'momentum': 0.1},
    ]
    cfg.model.init = 'teacher'
    cfg.experiment_name = f'{folder.name}_{name}'
    return cfg


def test_a_resumed_run_with_averaged_weights_ends_with_the_same_bits(tmp_path):
    digits = digits_with_masks(tmp_path / 'digits')
    whole = Runner.from_cfg(run_config(digits, tmp_path, 'whole'))
    whole.train()
    cfg = run_config(digits, tmp_path, 'resumed')
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole/iter_2.pth')
    resumed = Runner.from_cfg(cfg)
    resumed.train()
    ends = [torch.load(tmp_path / name / 'iter_4.pth') for name in ('whole', 'resumed')]
    start = torch.load(tmp_path / 'whole/iter_2.pth')
    for key in ('state_dict', 'ema_state_dict'):
        assert not any('teacher' in name for name in ends[0][key])
        assert list(ends[0][key]) == list(ends[1][key])
        assert all(torch.equal(v, ends[1][key][k]) for k, v in ends[0][key].items())
        assert not all(torch.equal(v, start[key][k]) for k, v in ends[0][key].items())


def test_two_ranks_take_the_same_steps(tmp_path):
    digits = digits_with_masks(tmp_path / 'digits')
    cfg = run_config(digits, tmp_path, 'alone')
    settings = {'model': dict(cfg.model), 'train_dataloader.dataset.pipeline.2.scale': (64, 64)}
    path = write_config(tmp_path, 'retinanet-1bit_r18_fpn', digits, 2, settings)
    with Ranks(2, tmp_path, path, '--cfg-options', 'model.feat_weight=3') as ranks:
        assert ranks.wait() == [0, 0], ranks.said(1)
    losses = kept(tmp_path, 2)
    assert losses.shape == (2, 2) and losses.isfinite().all()
    assert 'loss_distill_feat' in ranks.said(0)


def test_train_refuses_a_bad_teacher_in_one_line(tmp_path):
    digits = digits_with_masks(tmp_path / 'digits')
    path = write_config(
        tmp_path,
        'retinanet-1bit_r18_fpn',
        digits,
        2,
        {'model.type': 'surge_mm.DistilledDetector', 'model.teacher': NOWHERE},
    )
    with Ranks(1, tmp_path, path) as ranks:
        assert ranks.wait() == [1]
    last = ranks.said(0).splitlines()[-1]
    assert 'error' in last and "teacher: config='nowhere.py': there is no such file" in last
