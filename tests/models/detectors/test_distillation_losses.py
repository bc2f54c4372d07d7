"""The terms of distillation against their formulas, written out in NumPy."""

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder

from surge_mm.models.detectors.distillation_losses import (
    Predictions,
    box_loss,
    class_loss,
    feature_loss,
)


def predictions(logits, sigmoid=True, priors=None, deltas=None, coder=None):
    return Predictions(logits, sigmoid, priors, deltas, coder)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def giou(a, b):
    x1, y1 = np.maximum(a[:2], b[:2])
    x2, y2 = np.minimum(a[2:], b[2:])
    inter = max(x2 - x1, 0) * max(y2 - y1, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - inter
    left, right = np.minimum(a[:2], b[:2]), np.maximum(a[2:], b[2:])
    hull = np.prod(right - left)
    return inter / union - (hull - union) / hull


def decoded(prior, delta, stds):
    """Return the box that x, y, w and h relative to a prior describe."""
    center, size = (prior[:2] + prior[2:]) / 2, prior[2:] - prior[:2]
    center = center + delta[:2] * stds[:2] * size
    size = size * np.exp(delta[2:] * stds[2:])
    return np.concatenate([center - size / 2, center + size / 2])


def test_feature_loss_is_one_minus_the_correlation_of_each_channel():
    torch.manual_seed(0)
    own = [3 * draw(2, 4, 5, 6) + 1, draw(2, 4, 2, 3)]
    theirs = [x.detach() * 0.5 + torch.randn_like(x) for x in own]
    expected = 0.0
    for one, other in zip(own, theirs, strict=True):
        rows = [x.detach().transpose(0, 1).flatten(1).numpy() for x in (one, other)]
        expected += np.mean([1 - np.corrcoef(*pair)[0, 1] for pair in zip(*rows, strict=True)])
    assert feature_loss(own, theirs).item() == pytest.approx(expected, rel=1e-5)


def test_scale_and_shift_of_a_channel_do_not_change_the_feature_loss():
    torch.manual_seed(0)
    x, y = draw(2, 3, 4, 4).detach(), draw(2, 3, 4, 4).detach()
    scale, shift = torch.tensor([2.0, 30, 0.5]), torch.tensor([1.0, -7, 0])
    changed = x * scale[:, None, None] + shift[:, None, None]
    assert feature_loss([changed], [y]) == pytest.approx(feature_loss([x], [y]).item(), rel=1e-4)
    assert feature_loss([changed], [x]) < 1e-5


@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (1, 3, 1, 1)])
def test_a_channel_without_variance_has_a_finite_gradient(shape):
    x = torch.ones(shape, requires_grad=True)
    loss = feature_loss([x], [torch.randn(shape)])
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()


def test_class_loss_of_a_sigmoid_is_its_formula():
    torch.manual_seed(0)
    z_s, z_t = draw(30, 4), 2 * draw(30, 4).detach()
    total, n = 0.0, 0
    for row_s, row_t in zip(z_s.tolist(), z_t.tolist(), strict=True):
        scores = []
        for s, t in zip(row_s, row_t, strict=True):
            p_s, p_t = 1 / (1 + np.exp(-s)), 1 / (1 + np.exp(-t))
            entropy = -(p_t * np.log(p_s) + (1 - p_t) * np.log(1 - p_s))
            total += (p_s - p_t) ** 2 * entropy
            scores.append(p_t)
        n += max(scores) > 0.8
    assert 0 < n < 30
    loss = class_loss(predictions(z_s), predictions(z_t), 0.8)
    assert loss.item() == pytest.approx(total / n, rel=1e-6)


def test_class_loss_of_a_softmax_is_its_formula():
    torch.manual_seed(0)
    z_s, z_t = draw(30, 5), 2 * draw(30, 5).detach()
    total, n = 0.0, 0
    for row_s, row_t in zip(z_s.detach().numpy(), z_t.numpy(), strict=True):
        p_s, p_t = (np.exp(row) / np.exp(row).sum() for row in (row_s, row_t))
        total += ((p_s - p_t) ** 2).sum() / 2 * -(p_t * np.log(p_s)).sum()
        n += p_t[:4].max() > 0.5  # the last one is the background
    assert 0 < n < 30
    loss = class_loss(predictions(z_s, False), predictions(z_t, False), 0.5)
    assert loss.item() == pytest.approx(total / n, rel=1e-6)


def test_with_one_class_softmax_and_sigmoid_have_the_same_loss():
    torch.manual_seed(0)
    z_s, z_t = draw(9, 1), draw(9, 1)
    both = [
        torch.cat([z, torch.zeros_like(z)], 1) for z in (z_s, z_t)
    ]  # softmax (z, 0) = sigmoid(z)
    expected = class_loss(predictions(z_s), predictions(z_t), 0.3)
    assert torch.allclose(class_loss(*(predictions(z, False) for z in both), 0.3), expected)


def test_class_loss_is_not_divided_by_zero():
    z_s, z_t = draw(3, 2), torch.full((3, 2), -9.0, dtype=torch.float64)
    assert class_loss(predictions(z_s), predictions(z_t), 0.3) > 0


@pytest.mark.parametrize('classes', [1, 3])
def test_box_loss_is_the_giou_of_decoded_boxes_weighted_by_the_score(classes):
    torch.manual_seed(0)
    stds = np.array([0.1, 0.1, 0.2, 0.2])
    coder = DeltaXYWHBBoxCoder(target_stds=stds.tolist())
    corner, size = 50 * torch.rand(20, 2).double(), 10 + 20 * torch.rand(20, 2).double()
    priors = torch.cat([corner, corner + size], 1)
    own, theirs = (draw(20, classes, 4) for _ in range(2))
    z_t = 2 * draw(20, 3).detach()
    total, weight = 0.0, 0.0
    for i in range(20):
        scores = 1 / (1 + np.exp(-z_t[i].numpy()))
        if scores.max() <= 0.7:
            continue
        best = scores.argmax() if classes > 1 else 0
        boxes = [
            decoded(priors[i].numpy(), d[i, best].detach().numpy(), stds) for d in (own, theirs)
        ]
        total += scores.max() * (1 - giou(*boxes))
        weight += scores.max()
    assert 1 < weight < 19
    student = predictions(draw(20, 3), True, priors, own, coder)
    teacher = predictions(z_t, True, priors, theirs, coder)
    assert box_loss(student, teacher, 0.7).item() == pytest.approx(total / weight, rel=1e-5)


def test_box_loss_of_points_and_one_confident_position():
    points = torch.tensor([[10.0, 10.0], [20.0, 20.0]])
    own = torch.tensor([[[5.0, 5.0, 5.0, 5.0]], [[1.0, 1.0, 1.0, 1.0]]], requires_grad=True)
    theirs = torch.tensor([[[5.0, 5.0, 10.0, 5.0]], [[9.0, 9.0, 9.0, 9.0]]])
    z_t = torch.logit(torch.tensor([[0.6], [0.2]]))
    coder = DistancePointBBoxCoder()
    student = predictions(z_t, True, points, own, coder)
    loss = box_loss(student, predictions(z_t, True, points, theirs, coder), 0.3)
    # 10 x 10 in 15 x 10: GIoU = IoU = 2/3; the sum of the weights is less than 1
    assert loss.item() == pytest.approx(0.6 / 3, rel=1e-4)
    loss.backward()
    assert own.grad[0].abs().sum() > 0 and not own.grad[1].any()


def test_without_a_confident_position_the_box_loss_is_zero_with_a_gradient():
    points, deltas = torch.zeros(4, 2), torch.ones(4, 1, 4, requires_grad=True)
    low = torch.full((4, 2), -5.0)
    one = predictions(low, True, points, deltas, DistancePointBBoxCoder())
    loss = box_loss(one, one, 0.3)
    loss.backward()
    assert loss == 0 and deltas.grad is not None and not deltas.grad.any()


def test_half_precision_is_computed_in_float32():
    torch.manual_seed(0)
    z = torch.randn(6, 3).bfloat16()
    other = predictions(torch.randn(6, 3).bfloat16())
    assert class_loss(predictions(z), other, 0.3).dtype == torch.float32
    assert (
        feature_loss([torch.randn(2, 3, 4, 4).half()], [torch.randn(2, 3, 4, 4).half()]).dtype
        == torch.float32
    )
