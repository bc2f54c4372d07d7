"""Each loss equals a loop over sentences and layers in NumPy, and padding changes none."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from surge_mm.models.classifiers.text_distillation_losses import (
    direction_loss,
    hidden_loss,
    logit_loss,
    relation_loss,
)

LENGTHS = (5, 3, 4)


def mask(padding=0):
    longest = max(LENGTHS) + padding
    return torch.tensor([[i < length for i in range(longest)] for length in LENGTHS])


def states(seed, layers=3):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS), 6)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(layers)]


def heads(seed):
    """Return queries, keys and values of one layer with two heads."""
    return [x.unflatten(2, (2, 3)).transpose(1, 2) for x in states(seed)]


def unit(x):
    return x.ravel() / np.linalg.norm(x)


def reference(name, student, teacher):
    total = 0.0
    for x_s, x_t in zip(student, teacher, strict=True):
        values, sizes = [], []
        for i, length in enumerate(LENGTHS):
            one, other = (x[i, ..., :length, :].numpy() for x in (x_s, x_t))
            if name == 'hidden':
                values.append(((one - other) ** 2).sum())
                sizes.append(one.size)
            elif name == 'direction':
                values.append(np.linalg.norm(unit(one) - unit(other)))
                sizes.append(1)
            else:
                for head_s, head_t in zip(one, other, strict=True):
                    gap = unit(head_s @ head_s.T) - unit(head_t @ head_t.T)
                    values.append(np.linalg.norm(gap))
                    sizes.append(1)
        total += sum(values) / sum(sizes)
    return total


CASES = {
    'hidden': (hidden_loss, states),
    'direction': (direction_loss, states),
    'relation': (relation_loss, heads),
}


@pytest.mark.parametrize('name', CASES)
def test_a_loss_is_that_of_a_loop_over_the_tokens_of_each_sentence(name):
    function, make = CASES[name]
    student, teacher = make(0), make(1)
    expected = reference(name, student, teacher)
    assert function(student, teacher, mask()).item() == pytest.approx(expected, rel=1e-12)
    assert function(teacher, teacher, mask()).item() == 0


@pytest.mark.parametrize('name', CASES)
def test_padding_changes_neither_loss_nor_gradient(name):
    function, make = CASES[name]
    student = [x.requires_grad_() for x in make(0)]
    loss = function(student, make(1), mask())
    gradients = torch.autograd.grad(loss, student)
    padded = [[F.pad(x.detach(), (0, 0, 0, 2), value=7.0) for x in make(i)] for i in (0, 1)]
    padded[0] = [x.requires_grad_() for x in padded[0]]
    again = function(*padded, mask(2))
    torch.testing.assert_close(again, loss)
    for gradient, other in zip(gradients, torch.autograd.grad(again, padded[0]), strict=True):
        torch.testing.assert_close(F.pad(gradient, (0, 0, 0, 2)), other)


@pytest.mark.parametrize('name', CASES)
def test_gradients_are_finite_where_student_and_teacher_agree(name):
    function, make = CASES[name]
    student = [x.requires_grad_() for x in make(1)]
    gradients = torch.autograd.grad(function(student, make(1), mask()), student)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_logits_are_compared_as_distributions_or_as_one_number():
    one, other = (torch.randn(4, 3, dtype=torch.float64) for _ in range(2))
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (one, other))
    assert logit_loss(one, other).item() == pytest.approx(-(q * np.log(p)).sum(1).mean())
    expected = ((one - other)[:, :1].numpy() ** 2).mean()
    assert logit_loss(one[:, :1], other[:, :1]).item() == pytest.approx(expected)


def test_half_precision_is_computed_in_float32():
    student, teacher = ([x.bfloat16() for x in heads(seed)] for seed in (0, 1))
    loss = relation_loss(student, teacher, mask())
    assert loss.dtype == torch.float32
    single = relation_loss(*([x.float() for x in side] for side in (student, teacher)), mask())
    torch.testing.assert_close(loss, single)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_does_not_round_the_relations(dtype):
    student, teacher = ([100 * x for x in heads(seed)] for seed in (0, 1))
    expected = relation_loss(student, teacher, mask())
    with torch.autocast('cpu', dtype):
        torch.testing.assert_close(relation_loss(student, teacher, mask()), expected)
