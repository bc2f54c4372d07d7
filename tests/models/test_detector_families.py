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
from surge_mm.deploy.packed_layers import PackedShortcutConv2d
from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.binarize import layer_reports
from surge_mm.utils.errors import UsageError


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return digits_with_masks(tmp_path_factory.mktemp('digits'))


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    """Leave out two slow parts of a Runner: the config formatted as text, and a description of the machine."""
    for name in ('dump_config', '_log_env'):
        monkeypatch.setattr(Runner, name, lambda *args: None)


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


def config_with_teacher(family, digits, folder):
    """Return the config of a student with shortcuts, and write that of its teacher, which has none."""
    cfg = config(family.removesuffix('+sepbn'), digits, folder / 'whole')
    if family.endswith('+sepbn'):
        cfg.model.bbox_head.type = 'surge_mm.FCOSSepBNHead'
        cfg.model.bbox_head.norm_cfg = {'type': 'BN'}
    distill(cfg, folder)
    cfg.model.shortcuts = not family.startswith('ssd')
    if 'rcnn' not in cfg.model.test_cfg:
        cfg.model.test_cfg.score_thr = 0.0
    cfg.train_dataloader.batch_size //= 2
    if not family.startswith('ssd'):
        cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
    cfg.train_cfg.max_iters = cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.exact_resume = {'type': 'surge_mm.ExactResumeHook'}
    return cfg


@pytest.mark.parametrize('family', [*NARROW, 'fcos-1bit_r18_fpn+sepbn'])
def test_family_with_shortcuts_and_teacher_trains_is_evaluated_resumed_and_packed(
    family, digits, tmp_path
):
    cfg = config_with_teacher(family, digits, tmp_path)
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
        saved = torch.load(tmp_path / 'whole/iter_2.pth')['state_dict']
        assert list(saved) == list(plain.state_dict())
        assert 'val/coco/bbox_mAP' in scalars
        shortcuts = [report.name for report in layer_reports(runner.model) if report.shortcut]
        assert bool(shortcuts) == cfg.model.shortcuts

        later = copy.deepcopy(cfg)
        later.load_from, later.resume = str(tmp_path / 'whole/iter_1.pth'), True
        later.work_dir, later.experiment_name = str(tmp_path / 'later'), f'{tmp_path.name}_later'
        later.val_dataloader = later.val_cfg = later.val_evaluator = None
        Runner.from_cfg(later).train()
        resumed = torch.load(tmp_path / 'later/iter_2.pth')['state_dict']
        assert all(torch.equal(value, resumed[key]) for key, value in saved.items())

        model = runner.model.eval()
        packed = pack(copy.deepcopy(model))
        fused = [m for m in packed.modules() if isinstance(m, PackedShortcutConv2d)]
        assert bool(fused) == cfg.model.shortcuts
        if family.endswith('+sepbn'):
            assert packed.packing.unfused == {}
        save_packed(packed, cfg, tmp_path / 'a.safetensors')
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


def test_ssd_has_no_layer_that_can_have_a_shortcut(digits, tmp_path):
    cfg = config_with_teacher('ssd300-1bit_vgg16', digits, tmp_path)
    message = 'shortcuts=True: none of the 15 layers of SingleStageDetector to binarize can have a'
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(UsageError, match=message):
        MODELS.build({**cfg.model, 'shortcuts': True})
