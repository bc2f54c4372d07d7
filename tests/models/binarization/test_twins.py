"""A module that follows the weights of another one is binary in the same places, and computes the same after a copy."""

import copy
from unittest.mock import patch

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import surge_mm
from surge_mm.layers import BinaryLayer
from surge_mm.utils.errors import UsageError

SETTINGS = {
    'STE': {'compensator': None},
    'SURGE': {},
    'learned numbers': {'activation': {'type': 'RSign'}, 'weight': {'type': 'ReCU'}},
}
RETINANET = {
    'type': 'mmdet.RetinaNet',
    'backbone': {'type': 'mmdet.ResNet', 'depth': 18, 'base_channels': 8, 'frozen_stages': 1},
    'neck': {
        'type': 'mmdet.FPN',
        'in_channels': [8, 16, 32, 64],
        'out_channels': 8,
        'num_outs': 4,
    },
    'bbox_head': {
        'type': 'mmdet.RetinaHead',
        'num_classes': 2,
        'in_channels': 8,
        'feat_channels': 8,
        'stacked_convs': 1,
        'anchor_generator': {
            'type': 'mmdet.AnchorGenerator',
            'scales': [4],
            'ratios': [1.0],
            'strides': [4, 8, 16, 32],
        },
        'bbox_coder': {'type': 'mmdet.DeltaXYWHBBoxCoder'},
    },
}
MOCO = {
    'type': 'surge_mm.Binarized',
    'base_type': 'mmpretrain.MoCo',
    'backbone': {'type': 'mmpretrain.ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8},
    'neck': {
        'type': 'mmpretrain.MoCoV2Neck',
        'in_channels': 64,
        'hid_channels': 256,
        'out_channels': 256,
    },
    'head': {
        'type': 'mmpretrain.ContrastiveHead',
        'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
    },
    'queue_len': 8,
    'feat_dim': 256,
}


def binary_names(model):
    return {name for name, m in model.named_modules() if isinstance(m, BinaryLayer)}


def train_a_little(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


def mean_teacher(**settings):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            {
                'type': 'surge_mm.Binarized',
                'base_type': 'mmdet.SemiBaseDetector',
                'detector': copy.deepcopy(RETINANET),
                'semi_train_cfg': {'freeze_teacher': True},
                'semi_test_cfg': {'predict_on': 'teacher'},
                **settings,
            }
        )


@torch.no_grad()
@pytest.mark.parametrize('settings', SETTINGS.values(), ids=SETTINGS)
def test_a_mean_teacher_computes_what_the_student_does_after_a_copy(settings):
    from mmdet.engine.hooks import MeanTeacherHook

    model = mean_teacher(binary=settings)
    student, teacher = model.student, model.teacher
    assert len(binary_names(student)) == 12 + 4 + 2  # backbone without its frozen stage, neck, head
    assert binary_names(student) == binary_names(teacher)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    train_a_little(student)
    MeanTeacherHook().momentum_update(model.eval(), 1)
    image = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(student(image), teacher(image), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_rule_for_the_student_holds_for_the_teacher():
    for rule in ({'name': 'student.neck.*'}, {'name': '*neck*'}, {'inside': 'FPN'}):
        model = mean_teacher(rules=[{**rule, 'to': 'keep'}])
        assert binary_names(model.student) == binary_names(model.teacher)
        assert not any('neck' in name for name in binary_names(model))


def test_a_rule_for_the_teacher_alone_is_an_error():
    message = (
        'the weights of teacher.neck.fpn_convs.0.conv follow those of student.neck.fpn_convs.0.conv'
    )
    with pytest.raises(UsageError, match=message):
        mean_teacher(rules=[{'name': 'teacher.neck.*', 'to': 'keep'}])


def test_a_momentum_encoder_computes_what_the_encoder_does_after_a_copy():
    from mmpretrain.structures import DataSample

    binary = {'activation': {'type': 'RSign'}}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({**copy.deepcopy(MOCO), 'binary': binary})
    encoder = nn.Sequential(model.backbone, model.neck)
    assert len(binary_names(encoder)) == 17
    assert binary_names(model.encoder_k.module) == binary_names(encoder)
    train_a_little(encoder)
    views = [torch.randn(4, 3, 32, 32) for _ in range(2)]
    losses = model(
        views, [DataSample() for _ in range(4)], mode='loss'
    )  # updates the momentum encoder
    assert losses['loss'].isfinite()
    with torch.no_grad():
        model.eval()
        model.encoder_k.update_parameters(encoder)
        for inner in (encoder, model.encoder_k):
            inner.train()
        assert torch.equal(model.encoder_k(views[0])[0], encoder(views[0])[0])


def test_a_frozen_copy_that_may_be_a_trained_teacher_stays_real_with_a_warning():
    class Distilled(nn.Module):
        def __init__(self):
            super().__init__()
            self.learner = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
            self.expert = copy.deepcopy(self.learner).requires_grad_(False)

    model = Distilled()
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        surge_mm.binarize(model)
    assert binary_names(model) == {'learner.0', 'learner.1'}
    (message,) = [call.args[1] for call in log.call_args_list]
    assert message.startswith('expert is frozen and stays in full precision, and learner')
