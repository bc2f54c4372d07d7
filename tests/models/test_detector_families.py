"""Each family of detectors with binary neck and head learns digits, is saved and loaded, and is evaluated.

The networks are those of ``configs`` for COCO and Pascal VOC, made narrow.
"""

import copy

import pytest
import torch
from helpers.distillation import distill
from helpers.narrow import NARROW, config, digits_with_masks, with_fewer_regions
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from surge_mm import to_float
from surge_mm.deploy import load_packed, pack, save_packed
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.packing.packed_layers import PackedShortcutConv2d
from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.utils.errors import UsageError

# a random teacher has nothing to teach
WEIGHTS = {'feat_weight': 0.1, 'cls_weight': 0.1, 'bbox_weight': 0.1}
STEPS = 12


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return digits_with_masks(tmp_path_factory.mktemp('digits'))


@pytest.fixture(autouse=True)
def quick_runner(monkeypatch):
    """Leave out two slow parts of a Runner: the config formatted as text, and a description of the machine."""
    for name in ('dump_config', '_log_env'):
        monkeypatch.setattr(Runner, name, lambda *args: None)


def config_with_teacher(family, digits, folder):
    """Return the config of a student with shortcuts, and write that of its teacher, which has none."""
    cfg = config(family.removesuffix('+sepbn'), digits, folder / 'whole')
    if family.endswith('+sepbn'):
        cfg.model.bbox_head.type = 'surge_mm.FCOSSepBNHead'
        cfg.model.bbox_head.norm_cfg = {'type': 'BN'}
    distill(cfg, folder)
    cfg.model.update(WEIGHTS)
    cfg.model.shortcuts = not family.startswith('ssd')
    if 'rcnn' not in cfg.model.test_cfg:
        cfg.model.test_cfg.score_thr = 0.0
        cfg.model.test_cfg.min_bbox_size = -1  # after few steps, boxes may have no area
    if family.startswith('ssd'):
        cfg.train_dataloader.batch_size = 1
    cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
    with_fewer_regions(cfg.model, 64)
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    cfg.default_hooks.checkpoint.interval = STEPS - 1
    cfg.default_hooks.exact_resume = {'type': 'surge_mm.ExactResumeHook'}
    return cfg


@pytest.mark.parametrize('family', [*NARROW, 'fcos-1bit_r18_fpn+sepbn'])
def test_family_learns_digits_from_a_teacher_and_is_evaluated_resumed_and_packed(
    family, digits, tmp_path
):
    cfg = config_with_teacher(family, digits, tmp_path)
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner.from_cfg(cfg)
        runner.train()
        check_training(runner, family)
        saved = torch.load(tmp_path / f'whole/iter_{STEPS}.pth')['state_dict']
        plain = {**cfg.model, 'type': 'surge_mm.Binarized'}
        plain = {k: v for k, v in plain.items() if k not in ('teacher', 'score_thr', *WEIGHTS)}
        assert list(saved) == list(MODELS.build(plain).state_dict())
        shortcuts = [report.name for report in layer_reports(runner.model) if report.shortcut]
        assert bool(shortcuts) == cfg.model.shortcuts
        check_real(runner.model, plain, family)

        later = copy.deepcopy(cfg)
        later.load_from, later.resume = str(tmp_path / f'whole/iter_{STEPS - 1}.pth'), True
        later.work_dir, later.experiment_name = str(tmp_path / 'later'), f'{tmp_path.name}_later'
        later.val_dataloader = later.val_cfg = later.val_evaluator = None
        Runner.from_cfg(later).train()
        resumed = torch.load(tmp_path / f'later/iter_{STEPS}.pth')['state_dict']
        assert all(torch.equal(value, resumed[key]) for key, value in saved.items())

        check_packed(runner, cfg, family, tmp_path / 'a.safetensors')


def check_training(runner, family):
    scalars = runner.message_hub.log_scalars
    losses, _ = scalars['train/loss'].data
    assert len(losses) == STEPS
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    distilled = [name for name in scalars if 'loss_distill' in name]
    assert len(distilled) == {'faster': 5, 'mask-r': 5, 'cascad': 9}.get(family[:6], 3)
    assert all(torch.tensor(scalars[name].data[0]).isfinite().all() for name in distilled)
    assert 'val/coco/bbox_mAP' in scalars


def check_real(model, plain, family):
    """Compare the model in full precision with that of the config without binary layers."""
    if not family.startswith('ssd'):
        plain = {**plain, 'backbone': {**plain['backbone'], 'conv_cfg': None}}
    plain = MODELS.build({**copy.deepcopy(plain), 'structure_only': True})
    assert not any(isinstance(m, BinaryLayer) for m in plain.modules())
    trained, real = model.state_dict(), to_float(copy.deepcopy(model)).state_dict()
    assert list(real) == list(plain.state_dict())
    assert all(torch.equal(value, trained[key]) for key, value in real.items())


def check_packed(runner, cfg, family, file):
    """Store and load the model, and compare its predictions bit for bit."""
    model = runner.model.eval()
    packed = pack(copy.deepcopy(model))
    fused = [m for m in packed.modules() if isinstance(m, PackedShortcutConv2d)]
    assert bool(fused) == cfg.model.shortcuts
    if family.endswith('+sepbn'):
        assert packed.packing.unfused == {}
    save_packed(packed, file, cfg)
    stored = read_packed(file).config['model']
    assert stored['type'] == 'surge_mm.Binarized' and 'teacher' not in stored
    model.to(memory_format=torch.channels_last)
    packed = load_packed(file)
    for data in runner.val_dataloader:
        with torch.no_grad():
            pairs = zip(model.val_step(data), packed.val_step(data), strict=True)
        for one, other in ((a.pred_instances, b.pred_instances) for a, b in pairs):
            assert len(one) > 0
            assert torch.equal(one.bboxes, other.bboxes)
            assert torch.equal(one.scores, other.scores)


def test_ssd_has_no_layer_that_can_have_a_shortcut(digits, tmp_path):
    cfg = config_with_teacher('ssd300-1bit_vgg16', digits, tmp_path)
    message = 'shortcuts=True: none of the 15 layers of SingleStageDetector to binarize can have a'
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(UsageError, match=message):
        MODELS.build({**cfg.model, 'shortcuts': True})
