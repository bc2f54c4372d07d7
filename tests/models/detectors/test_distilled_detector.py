"""Detectors with a teacher: losses, and what stays apart from the student."""

import copy
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from helpers.distillation import (
    TERMS,
    detector,
    distilled,
    losses_of,
    prepared,
    save_teacher,
    student,
)
from helpers.narrow import NARROW, config
from helpers.samples import detection_batch
from mmdet.models.detectors import RetinaNet
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict

from surge_mm.analysis.complexity import model_complexity
from surge_mm.deploy import pack
from surge_mm.layers import BinaryLayer
from surge_mm.utils.errors import UsageError

NOWHERE = {'config': 'nowhere.py', 'checkpoint': 'nowhere.pth'}


def test_it_is_the_binarized_detector_with_three_more_losses(retina):
    cfg, teacher = retina
    model = student(cfg, teacher)
    assert isinstance(model, RetinaNet)
    plain = MODELS.build({**cfg, 'type': 'surge_mm.Binarized', 'base_type': cfg.type})
    assert list(model.state_dict()) == list(plain.state_dict())
    assert list(losses_of(model)) == ['loss_cls', 'loss_bbox', *TERMS]
    plain.load_state_dict(model.state_dict())
    for name, value in losses_of(plain).items():
        torch.testing.assert_close(losses_of(model)[name], value)


def test_losses_of_a_retinanet_are_those_of_its_outputs(retina):
    """The reference reads the outputs of both networks and matches positions one by one."""
    cfg, teacher = retina
    weights = {'feat_weight': 2.0, 'cls_weight': 3.0, 'bbox_weight': 5.0}
    model = student(cfg, teacher, score_thr=0.012, **weights).eval().double()
    model.init_weights()
    found = distilled(losses_of(model))
    inputs, _ = prepared(model)
    nets = model, model.teacher
    features = [net.extract_feat(inputs) for net in nets]
    outputs = [net.bbox_head(x) for net, x in zip(nets, features, strict=True)]
    features, outputs = detached(features), detached(outputs)
    feat = cls = box = 0.0
    positions, total_score = 0, 0.0
    sizes = [level.shape[2:] for level in features[0]]
    for level in range(3):
        channels = [f[level].transpose(0, 1).flatten(1).numpy() for f in features]
        feat += np.mean([1 - np.corrcoef(*rows)[0, 1] for rows in zip(*channels, strict=True)])
        anchors = model.bbox_head.prior_generator.grid_priors(sizes, device='cpu')
        n, _, height, width = outputs[0][0][level].shape
        for image, y, x, a in np.ndindex(n, height, width, 2):
            z_s, z_t = (out[0][level][image, 3 * a : 3 * a + 3, y, x].numpy() for out in outputs)
            p_s, p_t = (1 / (1 + np.exp(-z)) for z in (z_s, z_t))
            entropy = -(p_t * np.log(p_s) + (1 - p_t) * np.log(1 - p_s))
            cls += float(((p_s - p_t) ** 2 * entropy).sum())
            if p_t.max() > 0.012:
                positions += 1
                total_score += p_t.max()
                anchor = anchors[level][(y * width + x) * 2 + a].numpy()
                deltas = [out[1][level][image, 4 * a : 4 * a + 4, y, x].numpy() for out in outputs]
                box += p_t.max() * (1 - giou(*(decoded(anchor, d) for d in deltas)))
    assert 10 < positions < n * 2 * (16 * 16 + 8 * 8 + 4 * 4) - 10
    expected = {
        'loss_distill_feat': 2 * feat,
        'loss_distill_cls': 3 * cls / positions,
        'loss_distill_bbox': 5 * box / total_score,
    }
    assert found == pytest.approx(expected, rel=1e-5)


def test_neck_and_head_may_stay_real_if_the_backbone_is_binary(tmp_path):
    cfg = detector()
    cfg.backbone = {'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 8}
    real = copy.deepcopy(cfg)
    real.backbone.conv_cfg = None
    cfg.rules = [{'name': '*', 'to': 'keep'}]
    model = student(cfg, save_teacher(tmp_path, real), init='teacher')
    losses = losses_of(model)
    sum(sum(v) if isinstance(v, list) else v for v in losses.values()).backward()
    binary = [name for name, m in model.named_modules() if isinstance(m, BinaryLayer)]
    assert len(binary) == 16 and all(name.startswith('backbone.layer') for name in binary)
    assert all(value > 0 for value in distilled(losses).values()) and len(distilled(losses)) == 3
    assert all(model.get_submodule(name).weight.grad.any() for name in binary)


def detached(outputs):
    return [detached(x) if isinstance(x, (list, tuple)) else x.detach() for x in outputs]


def decoded(anchor, delta):
    center, size = (anchor[:2] + anchor[2:]) / 2, anchor[2:] - anchor[:2]
    center, size = center + delta[:2] * size, size * np.exp(delta[2:])
    return np.concatenate([center - size / 2, center + size / 2])


def giou(a, b):
    inter = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter
    hull = (np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])).prod()
    return inter / union - (hull - union) / hull


FAMILIES = ('faster-rcnn', 'mask-rcnn', 'cascade-rcnn', 'retinanet', 'fcos', 'rtmdet', 'ssd300')


@pytest.mark.parametrize('family', FAMILIES)
def test_a_student_that_equals_its_teacher_has_no_distillation_loss(family, tmp_path):
    (name,) = (key for key in NARROW if key.startswith(f'{family}-1bit'))
    cfg = config(name, tmp_path, tmp_path).model
    cfg.structure_only = True
    cfg.pop('binary', None)
    if not family.startswith('ssd'):
        cfg.backbone.conv_cfg = None
    model = student(
        cfg, save_teacher(tmp_path, cfg), init='teacher', score_thr=0.02, feat_weight=1.0
    )
    model.init_weights()
    model.eval()
    head = model.rpn_head if 'rcnn' in family else model.bbox_head
    head.training = True  # FCOS predicts other numbers in training
    torch.manual_seed(5)
    data = model.data_preprocessor(detection_batch(with_masks=family == 'mask-rcnn'), training=True)
    inputs, samples = data['inputs'], data['data_samples']
    same = distilled(model.loss(inputs, copy.deepcopy(samples)))
    assert len(same) == {'faster-rcnn': 5, 'mask-rcnn': 5, 'cascade-rcnn': 9}.get(family, 3)
    assert max(same.values()) < 1e-5, same
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    other = distilled(model.loss(inputs, samples))
    assert list(other) == list(same)
    assert min(other.values()) > 1e-4, other


def test_the_teacher_stays_apart(retina):
    cfg, teacher = retina
    model = student(cfg, teacher)
    model.init_weights()
    model.train()
    before = copy.deepcopy(model.teacher.state_dict())
    sum(sum(v) if isinstance(v, list) else v for v in losses_of(model).values()).backward()
    assert not any(module.training for module in model.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert not any('teacher' in key for key in get_state_dict(model))
    assert not any('teacher' in name for name, _ in model.named_modules())
    stored = torch.load(teacher['checkpoint'])['state_dict']
    assert all(torch.equal(stored[key], value) for key, value in before.items())


@pytest.mark.parametrize('term', ['feat', 'cls', 'bbox'])
def test_each_term_alone_has_a_gradient_in_its_part_of_the_student(term, retina):
    cfg, teacher = retina
    weights = {f'{name}_weight': float(name == term) for name in ('feat', 'cls', 'bbox')}
    model = student(cfg, teacher, **weights)
    losses = losses_of(model)
    assert list(losses) == ['loss_cls', 'loss_bbox', f'loss_distill_{term}']
    losses[f'loss_distill_{term}'].backward()
    heads = {'feat': [], 'cls': ['retina_cls'], 'bbox': ['retina_reg']}
    for name in ('retina_cls', 'retina_reg'):
        grad = model.bbox_head.get_submodule(name).weight.grad
        assert (grad is not None and bool(grad.any())) == (name in heads[term]), name
    neck = [layer for layer in model.neck.modules() if isinstance(layer, BinaryLayer)]
    assert any(layer.weight.grad.any() and layer.aux_weight.grad.any() for layer in neck)


def test_without_weights_of_heads_a_teacher_needs_only_the_same_neck(tmp_path, retina):
    fcos = save_teacher(tmp_path, detector('fcos'), name='fcos')
    model = student(retina[0], fcos, cls_weight=0, bbox_weight=0)
    assert list(distilled(losses_of(model))) == ['loss_distill_feat']


def test_the_teacher_moves_with_the_model_and_a_copy_loads_its_own(retina):
    model = student(*retina)
    model.init_weights()
    assert {p.dtype for p in model.double().teacher.parameters()} == {torch.float64}
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model) and not other._teacher
        assert distilled(losses_of(other)) == distilled(losses_of(model))


def test_only_training_needs_the_teacher(retina):
    cfg, _ = retina
    plain = MODELS.build({**cfg, 'type': 'surge_mm.Binarized', 'base_type': cfg.type})
    model = student(cfg, NOWHERE)
    plain.load_state_dict(model.state_dict())
    sizes = [model_complexity(net, 64, 64).as_dict() for net in (model, plain)]
    assert sizes[0] == sizes[1]
    inputs, samples = prepared(model)
    with torch.no_grad():
        results = [
            net.eval().predict(inputs, copy.deepcopy(samples))[0].pred_instances
            for net in (model, plain)
        ]
        assert torch.equal(results[0].bboxes, results[1].bboxes)
        expected = model(inputs)
        packed = copy.deepcopy(pack(model.to(memory_format=torch.channels_last)))
        for one, other in zip(sum(packed(inputs), []), sum(expected, []), strict=True):
            torch.testing.assert_close(one, other)


def test_a_teacher_is_dropped_by_pack(retina):
    model = student(*retina)
    model.init_weights()
    assert pack(model)._teacher == []


@pytest.mark.parametrize('init', [None, 'teacher'])
def test_a_student_starts_from_its_teacher_if_asked(init, tmp_path):
    cfg = detector()
    teacher = save_teacher(tmp_path, cfg)
    cfg.bbox_head.feat_channels = 24  # the towers differ in shape
    model = student(cfg, teacher, init=init)
    with mock.patch('surge_mm.models.student.log') as log:
        model.init_weights()
    stored, own = torch.load(teacher['checkpoint'])['state_dict'], model.state_dict()
    equal = {k for k, v in stored.items() if v.shape == own[k].shape and v.equal(own[k])}
    weights = {k for k in stored if k.endswith('conv.weight') and not k.startswith('bbox_head')}
    assert weights and (weights <= equal) == (init == 'teacher')
    fits = [k for k, v in stored.items() if v.shape == own[k].shape]
    said = [f'{len(fits)} of {len(own)} tensors are initialized by those of the teacher']
    assert [call.args[0] for call in log.call_args_list] == (said if init else [])
    if init:
        for layer in model.neck.modules():
            if isinstance(layer, BinaryLayer):
                assert torch.equal(layer.aux_weight, layer.weight)


def test_a_student_with_a_deeper_backbone_of_ours_starts_from_what_its_teacher_has(tmp_path):
    cfg = detector()
    cfg.backbone = ConfigDict(
        type='surge_mm.SurgeResNet',
        depth=18,
        base_channels=8,
        conv_cfg=None,
        out_indices=(0, 1, 2, 3),
    )
    teacher = save_teacher(tmp_path, cfg)
    cfg.backbone.update(depth=34, conv_cfg={'type': 'surge_mm.SurgeConv2d'})
    model = student(cfg, teacher, init='teacher')
    model.init_weights()
    stored, own = torch.load(teacher['checkpoint'])['state_dict'], model.state_dict()
    assert all(v.equal(own[k]) for k, v in stored.items() if v.shape == own[k].shape)
    for layer in model.backbone.modules():
        if isinstance(layer, BinaryLayer):
            assert torch.equal(layer.aux_weight, layer.weight)


def test_autocast_changes_the_losses_little(retina):
    model = student(*retina).eval()
    expected = distilled(losses_of(model))
    with torch.autocast('cpu', torch.bfloat16):
        losses = losses_of(model)
    found = distilled(losses)
    assert all(losses[name].dtype == torch.float32 for name in TERMS)
    assert found == pytest.approx(expected, rel=0.15) and found != expected


def test_a_step_without_regions_of_interest_has_finite_losses(tmp_path):
    cfg = config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model
    model = student(cfg, save_teacher(tmp_path, cfg)).train()
    model.train_cfg.rpn_proposal.min_bbox_size = 10000
    data = model.data_preprocessor(detection_batch(), training=True)
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[:0]
    losses, _ = model.parse_losses(model.loss(data['inputs'], data['data_samples']))
    losses.backward()
    assert losses.isfinite()


BAD_SETTINGS = [
    ({'teacher': {'config': 'a.py'}}, r"teacher={'config': 'a.py'} must be dict\(config=..., ch"),
    ({'feat_weight': -1.0}, 'feat_weight=-1.0 must be a number of at least 0'),
    ({'feat_weight': 0, 'cls_weight': 0, 'bbox_weight': 0}, 'are all 0. Use surge_mm.Binarized'),
    ({'init': 'techer'}, "init='techer' must be 'teacher' or None"),
    ({'feat_weigth': 1.0}, "unknown argument 'feat_weigth'; did you mean 'feat_weight'"),
    ({'ruls': []}, "unknown argument 'ruls'; did you mean 'rules'"),
    ({'neck': None}, 'DistilledDetector: RetinaNet has no neck, whose outputs'),
]  # fmt: skip


@pytest.mark.parametrize('change, message', BAD_SETTINGS)
def test_bad_settings_are_refused_when_the_model_is_built(change, message):
    cfg = detector()
    if 'neck' in change:
        cfg.backbone.out_indices = (1, 2, 3)
    with pytest.raises(UsageError, match=message):
        student(cfg, **{'teacher': NOWHERE, **change})


def test_a_model_that_is_no_detector_of_stages_is_refused():
    cfg = {'type': 'mmdet.ResNet', 'depth': 18}
    with pytest.raises(UsageError, match='ResNet must be a SingleStageDetector or TwoStageDetec'):
        student(ConfigDict(cfg), NOWHERE)
