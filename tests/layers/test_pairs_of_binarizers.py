"""Any activation binarizer with any weight binarizer, with and without the branch, against autograd of the formula."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import PLAIN, binary_weight, surrogate_sign

from surge_mm.layers import SurgeConv2d, SurgeLinear
from surge_mm.ops import Scheduled, WeightBinarizer

PAIRS = list(itertools.product(PLAIN, sorted(WeightBinarizer.known)))
PROGRESS = 0.4


def follow(layer, progress=PROGRESS):
    for binarizer in (layer.activation, layer.weight_binarizer):
        if isinstance(binarizer, Scheduled):
            binarizer.follow(progress)
    return layer


def options(activation, weight, compensator):
    return {
        'activation': {'type': activation},
        'weight': {'type': weight},
        'compensator': compensator,
        'dtype': torch.float64,
    }


def convolution(activation, weight, compensator):
    torch.manual_seed(0)
    layer = SurgeConv2d(4, 6, 3, padding=1, groups=2, **options(activation, weight, compensator))
    return layer, torch.randn(3, 4, 5, 5, dtype=torch.float64)


def linear(activation, weight, compensator):
    torch.manual_seed(0)
    layer = SurgeLinear(7, 5, **options(activation, weight, compensator))
    return layer, torch.randn(2, 3, 7, dtype=torch.float64)


def product(x, w):
    return F.linear(x, w) if w.dim() == 2 else F.conv2d(x, w, padding=1, groups=2)


@pytest.mark.parametrize('make', [convolution, linear])
@pytest.mark.parametrize('lam', [None, 0.3])
@pytest.mark.parametrize(('activation', 'weight'), PAIRS)
def test_every_gradient_is_that_of_autograd(activation, weight, lam, make):
    layer, x = make(activation, weight, None if lam is None else {'scale': lam, 'init': 'kaiming'})
    follow(layer)
    with torch.no_grad():
        for p in (layer.activation_shift, layer.weight_gain):
            if p is not None:
                p.normal_()
    naive = copy.deepcopy(layer)
    x_naive = x.clone().requires_grad_()
    shift = 0 if naive.activation_shift is None else naive.activation_shift
    gain = 1 if naive.weight_gain is None else naive.weight_gain
    q_x = surrogate_sign(x_naive + shift, activation, PROGRESS)
    expected = product(q_x, gain * binary_weight(naive.weight, weight, PROGRESS))
    if lam is not None:
        branch = lam * product(x_naive, naive.aux_weight)
        expected = expected + branch - branch.detach()
    expected = expected + naive.bias.view(-1, *[1] * (x.dim() - 2 if x.dim() == 4 else 0))
    g = torch.randn_like(expected)
    expected.backward(g)

    x.requires_grad_()
    out = layer(x)
    out.backward(g)
    close = {'rtol': 1e-10, 'atol': 1e-10}
    torch.testing.assert_close(out, expected, **close)
    torch.testing.assert_close(x.grad, x_naive.grad, **close)
    for (name, p), q in zip(layer.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, **close, msg=lambda m, name=name: f'{name}: {m}')


@pytest.mark.parametrize('compensator', [{'eta': 0.1}, {'eta': 1.0, 'preserve_norm': True}])
def test_the_learned_shift_sees_the_surrogate_gradient_alone(compensator):
    with_branch, x = convolution('RSign', 'ReCU', compensator)
    plain, _ = convolution('RSign', 'ReCU', None)
    for layer in (with_branch, plain):
        follow(layer)(x).square().sum().backward()
    assert torch.equal(with_branch.activation_shift.grad, plain.activation_shift.grad)
    assert torch.equal(with_branch.weight_gain.grad, plain.weight_gain.grad)


def test_shift_and_gain_get_gradients_behind_a_frozen_input_and_weight():
    layer, x = convolution('RSign', 'ReCU', None)
    layer.weight.requires_grad_(False)
    follow(layer)(x).square().sum().backward()
    assert layer.weight.grad is None
    assert layer.activation_shift.grad.abs().sum() > 0
    assert layer.weight_gain.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(('activation', 'weight'), PAIRS)
def test_they_train_under_autocast(activation, weight, dtype):
    layer, x = convolution(activation, weight, {'eta': 0.1})
    layer, x = follow(layer.float()), x.float().requires_grad_()
    with torch.autocast(x.device.type, dtype):
        out = layer(x)
    assert out.dtype == dtype
    out.float().square().mean().backward()
    assert x.grad.isfinite().all()
    for p in layer.parameters():
        assert p.grad.dtype == torch.float32
        assert p.grad.isfinite().all()


def test_values_do_not_depend_on_the_progress():
    for activation, weight in PAIRS:
        layer, x = convolution(activation, weight, None)
        assert torch.equal(follow(layer, 0.1)(x), follow(layer, 0.9)(x))


def test_a_layer_too_small_for_its_binarizer_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match=r'ReCU.*\(8, 1, 1, 1\) have 1\. Take another binarizer'):
        SurgeConv2d(8, 8, 1, groups=8, weight={'type': 'ReCU'})


def test_a_compiled_layer_follows_the_schedule_without_being_compiled_at_each_step():
    layer, x = convolution('EDE', 'Libra', {'eta': 0.1})
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, backend='aot_eager')
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for step in range(8):
        for one, run in ((layer, layer), (twin, compiled)):
            follow(one, step / 7).zero_grad()
            run(x).square().sum().backward()
        torch.testing.assert_close(twin.weight.grad, layer.weight.grad, rtol=1e-8, atol=1e-8)
    graphs = torch._dynamo.utils.counters['stats']['unique_graphs']
    assert 0 < graphs <= 4
