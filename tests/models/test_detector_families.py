"""Each family of detectors with binary neck and head learns digits, is saved and loaded, and is evaluated.

The networks are those of ``configs`` for COCO and Pascal VOC, made narrow.
"""

import copy

import pytest
import torch
from helpers.narrow import NARROW, config, digits_with_masks
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from surge_mm import to_float
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
