"""Each family of detectors with binary neck and head learns digits, is saved and loaded, and is evaluated.

The networks are those of ``configs`` for COCO and Pascal VOC, made narrow.
"""

import copy

import pytest
import torch
from helpers.distillation import distill
from helpers.narrow import NARROW, config, digits_with_masks
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from surge_mm import to_float
from surge_mm.deploy import load_packed, pack, save_packed
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.layers import BinaryLayer


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return digits_with_masks(tmp_path_factory.mktemp('digits'))


def without_binary(family):
    return {} if family.startswith('ssd') else {'conv_cfg': None}


@pytest.mark.parametrize('family', NARROW)
def test_family_learns_digits_and_its_checkpoint_evaluates_alike(family, digits, tmp_path):
    cfg = config(family, digits, tmp_path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner.from_cfg(cfg)
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
        assert len(losses) == 20
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])

        cfg.load_from = str(tmp_path / 'iter_20.pth')
        cfg.work_dir, cfg.experiment_name = str(tmp_path / 'test'), f'{tmp_path.name}_test'
        again = Runner.from_cfg(cfg)
        again.load_or_resume()
        assert 'coco/bbox_mAP' in again.val()
        predictions = []
        for model in (runner.model, again.model):
            batch = next(iter(runner.val_dataloader))
            with torch.no_grad():
                predictions.append([one.pred_instances for one in model.eval().val_step(batch)])
        for one, other in zip(*predictions, strict=True):
            assert len(one) > 0
            assert torch.equal(one.bboxes, other.bboxes) and torch.equal(one.scores, other.scores)
        trained, loaded = runner.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in trained.items())

        real = copy.deepcopy(dict(cfg.model))
        real['backbone'] = {**real['backbone'], **without_binary(family)}
        plain = MODELS.build({**real, 'structure_only': True})
        assert not any(isinstance(m, BinaryLayer) for m in plain.modules())
        again = to_float(again.model).state_dict()
        assert list(again) == list(plain.state_dict())
        assert all(torch.equal(value, trained[key]) for key, value in again.items())


@pytest.mark.parametrize('family', NARROW)
def test_family_with_a_teacher_trains_is_evaluated_and_packed(family, digits, tmp_path):
    cfg = config(family, digits, tmp_path)
    distill(cfg, tmp_path)
    if 'rcnn' not in cfg.model.test_cfg:
        cfg.model.test_cfg.score_thr = 0.0
    cfg.train_cfg.max_iters = cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.interval = 2
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner.from_cfg(cfg)
        runner.train()
        plain = {**cfg.model, 'type': 'surge_mm.Binarized'}
        own = ('teacher', 'score_thr')
        plain = MODELS.build({k: v for k, v in plain.items() if k not in own})
        scalars = runner.message_hub.log_scalars
        names = [name for name in scalars if 'loss_distill' in name]
        assert len(names) == {'faster': 5, 'mask-r': 5, 'cascad': 9}.get(family[:6], 3)
        assert all(torch.tensor(scalars[name].data[0]).isfinite().all() for name in names)
        saved = torch.load(tmp_path / 'iter_2.pth')['state_dict']
        assert list(saved) == list(plain.state_dict())
        assert runner.val()

        model = runner.model.eval()
        save_packed(pack(copy.deepcopy(model)), cfg, tmp_path / 'a.safetensors')
        stored = read_packed(tmp_path / 'a.safetensors').config['model']
        assert stored['type'] == 'surge_mm.Binarized' and 'teacher' not in stored
        model.to(memory_format=torch.channels_last)
        packed = load_packed(tmp_path / 'a.safetensors')
        for data in runner.val_dataloader:
            with torch.no_grad():
                pairs = zip(model.val_step(data), packed.val_step(data), strict=True)
            for one, other in ((a.pred_instances, b.pred_instances) for a, b in pairs):
                assert torch.equal(one.bboxes, other.bboxes)
                assert torch.equal(one.scores, other.scores)
