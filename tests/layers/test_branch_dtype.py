"""The branch in bfloat16: gradients against float64, within the bounds of its roundings."""

import functools

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import surrogate_and_branch_gradients

from surge_mm.layers import SurgeConv2d, SurgeLinear

U = torch.finfo(torch.bfloat16).eps / 2  # of one rounding
BOUND = 4 * U  # of g, of the other factor, of the result; and of a partial sum
LAYERS = {
    'convolution': (
        functools.partial(SurgeConv2d, 32, 24, 3, padding=1),
        (2, 32, 9, 8),
        functools.partial(F.conv2d, padding=1),
    ),
    'groups': (
        functools.partial(SurgeConv2d, 8, 12, 3, stride=2, groups=2),
        (2, 8, 9, 8),
        functools.partial(F.conv2d, stride=2, groups=2),
    ),
    'linear': (functools.partial(SurgeLinear, 40, 24), (2, 7, 40), F.linear),
}


def built(name, **compensator):
    make, shape, f = LAYERS[name]
    torch.manual_seed(0)
    layer = make(bias=False, activation={'type': 'STESign'}, compensator=compensator)
    return layer, torch.randn(shape), f


def step(layer, x, autocast=False):
    """Return the output, its gradient, and the gradients of x, W_b and W_a."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
        out = layer(x)
    g = torch.randn(out.shape, generator=torch.Generator(x.device).manual_seed(1)).to(out.dtype)
    out.backward(g)
    aux = None if layer.tied else layer.aux_weight.grad
    return out.detach(), g, x.grad, layer.weight.grad, aux


def expected(layer, x, g, f):
    """Return g_b, g_a and dL/dW_a / lambda in float64, and the sums of absolute products of the last two."""
    w_b = layer.weight.detach().double()
    w_a = w_b if layer.tied else layer.aux_weight.detach().double()
    x, g = x.double(), g.double()
    binarizers = ('STESign', 'ScaledSign')
    g_b, g_a, grad_a = surrogate_and_branch_gradients(f, x, w_b, w_a, g, *binarizers)
    _, sum_x, sum_w = surrogate_and_branch_gradients(
        f, x.abs(), w_b, w_a.abs(), g.abs(), *binarizers
    )
    return g_b, g_a, grad_a, sum_x, sum_w


@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('name', LAYERS)
def test_gradients_are_within_the_bounds_of_bfloat16(name, tied):
    layer, x, f = built(name, scale=0.5, tied=tied, dtype='bfloat16')
    _, g, grad_x, _, grad_w_a = step(layer, x)
    g_b, g_a, grad_a, sum_x, sum_w = expected(layer, x, g, f)
    error = (2 * (grad_x.double() - g_b) - g_a).abs()
    assert (error <= BOUND * sum_x + 1e-5).all()
    assert error.max() > 1e-4  # and not of float32
    assert grad_x.dtype == torch.float32
    if not tied:
        doubled = 2 * grad_w_a
        assert ((doubled.double() - grad_a).abs() <= BOUND * sum_w + 1e-5).all()
        assert grad_w_a.dtype == torch.float32
        assert torch.equal(doubled.bfloat16().float(), doubled)


@pytest.mark.parametrize('preserve_norm', [False, True])
@pytest.mark.parametrize('tied', [False, True])
@pytest.mark.parametrize('name', LAYERS)
def test_norms_lambda_and_the_sum_are_those_of_float32(name, tied, preserve_norm):
    layer, x, f = built(name, eta=0.3, tied=tied, preserve_norm=preserve_norm, dtype='bfloat16')
    _, g, grad_x, _, grad_w_a = step(layer, x)
    g_b, g_a, grad_a, sum_x, sum_w = expected(layer, x, g, f)
    lam = layer.ags_statistics[0].double()
    grad_x = grad_x.double()
    if preserve_norm:
        torch.testing.assert_close(grad_x.norm(), g_b.norm(), rtol=1e-5, atol=0)
        wanted = g_b + 0.3 * g_b.norm() / g_a.norm() * g_a
        angle = 0.3 * BOUND * sum_x.norm() / g_a.norm()
        assert F.cosine_similarity(grad_x.flatten(), wanted.flatten(), 0) >= 1 - angle**2
    else:
        torch.testing.assert_close((grad_x - g_b).norm(), 0.3 * g_b.norm(), rtol=1e-5, atol=0)
        assert (((grad_x - g_b) / lam - g_a).abs() <= BOUND * sum_x + 1e-4).all()
    torch.testing.assert_close(
        lam, 0.3 * g_b.norm() / g_a.norm(), rtol=BOUND * float(sum_x.norm() / g_a.norm()), atol=0
    )
    if not tied:
        assert ((grad_w_a.double() / lam - grad_a).abs() <= BOUND * sum_w + 1e-4).all()


@pytest.mark.parametrize('name', LAYERS)
def test_the_binary_path_is_the_same_to_the_bit(name):
    results = []
    for settings in ({}, {'dtype': 'bfloat16'}):
        layer, x, _ = built(name, eta=0.3, **settings)
        results.append(step(layer, x))
    (out, _, grad_x, grad_w, grad_a), (out_16, _, grad_x_16, grad_w_16, grad_a_16) = results
    assert torch.equal(out, out_16) and torch.equal(grad_w, grad_w_16)
    assert not torch.equal(grad_x, grad_x_16) and not torch.equal(grad_a, grad_a_16)


@pytest.mark.parametrize('name', LAYERS)
def test_under_autocast_to_bfloat16_it_changes_nothing(name):
    results = []
    for settings in ({}, {'dtype': 'bfloat16'}):
        layer, x, _ = built(name, eta=0.3, **settings)
        results.append(step(layer, x, autocast=True))
    for without, with_dtype in zip(*results, strict=True):
        assert torch.equal(without, with_dtype)
