import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import get_state_dict
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from surge_mm.deploy import pack


@pytest.fixture(autouse=True)
def scope():
    """Set the scope of a classification config; other tests may have left another."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def classifier(**options):
    return {
        'type': 'mmpretrain.ImageClassifier',
        'backbone': {
            'type': 'surge_mm.SurgeResNet',
            'depth': 18,
            'base_channels': 4,
            'stem': 'cifar',
            'out_indices': (3,),
        },
        'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
        'head': {
            'type': 'mmpretrain.LinearClsHead',
            'num_classes': 5,
            'in_channels': 32,
            'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
        },
        **options,
    }


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    model = MODELS.build(classifier())
    path = tmp_path / 'teacher.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    return path, model.eval()


def student(path, **options):
    teacher = classifier(init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    torch.manual_seed(0)
    return MODELS.build(classifier(type='surge_mm.DistilledClassifier', teacher=teacher, **options))


def batch():
    torch.manual_seed(2)
    return torch.randn(6, 3, 16, 16), [DataSample().set_gt_label(i % 5) for i in range(6)]


def test_loss_is_the_cross_entropy_with_the_teachers_distribution(checkpoint):
    path, teacher = checkpoint
    model = student(path, label_weight=0.5)
    model.init_weights()
    inputs, samples = batch()
    losses = model.loss(inputs, samples)
    with torch.no_grad():
        target = teacher(inputs).softmax(1)
        logits = model(inputs)
    expected = -(target.double() * logits.double().log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses['loss_distill'].double(), expected, rtol=1e-5, atol=1e-6)
    labels = torch.tensor([i % 5 for i in range(6)])
    expected = 0.5 * torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(losses['loss_label'], expected)


def test_labels_count_only_if_asked(checkpoint):
    assert set(student(checkpoint[0]).loss(*batch())) == {'loss_distill'}


def test_the_teacher_stays_apart(checkpoint):
    path, teacher = checkpoint
    model = student(path)
    model.init_weights()
    model.train()
    before = copy.deepcopy(model.teacher.state_dict())
    sum(model.loss(*batch()).values()).backward()
    assert not model.teacher.training
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert not any('teacher' in key for key in get_state_dict(model))
    assert not any('teacher' in name for name, _ in model.named_parameters())
    for mine, theirs in zip(model.teacher.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_teacher_moves_with_the_model(checkpoint):
    model = student(checkpoint[0]).double()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    'change, message',
    [
        ({'head': {'num_classes': 7}}, 'num_classes=7 of its head must be that of the model, 5'),
        ({'init_cfg': None}, 'it has no weights'),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(checkpoint, change, message):
    teacher = classifier(init_cfg={'type': 'Pretrained', 'checkpoint': str(checkpoint[0])})
    with pytest.raises(ValueError, match=message):
        MODELS.build(classifier(type='surge_mm.DistilledClassifier', teacher={**teacher, **change}))


def test_a_negative_weight_is_refused(checkpoint):
    with pytest.raises(ValueError, match='label_weight=-1'):
        student(checkpoint[0], label_weight=-1)


@torch.no_grad()
def test_a_packed_student_needs_no_teacher(checkpoint):
    model = student(checkpoint[0]).eval()
    inputs, _ = batch()
    expected = model.to(memory_format=torch.channels_last)(inputs)
    packed = copy.deepcopy(pack(model).to('cpu'))
    assert torch.equal(packed(inputs), expected)
