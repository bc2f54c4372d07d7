"""The properties of DPGC and AGS, on a linear map; tests/layers checks the convolution's geometry."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import dual_path, surrogate_and_branch_gradients
from hypothesis import given
from hypothesis import strategies as st

from surge_mm.ops import (
    AdaptiveScale,
    ApproxSign,
    DualPath,
    DualPathSpec,
    EagerDualPath,
    FixedScale,
    LinearMap,
    ScaledSign,
    Statistics,
    STESign,
)

SPEC = DualPathSpec(LinearMap(), STESign(), ScaledSign())


def tensors(seed=0, dtype=torch.float64, scale_a=1.0):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    x = torch.randn(9, 6, generator=generator, dtype=dtype)
    w_b = torch.randn(5, 6, generator=generator, dtype=dtype)
    w_a = torch.randn(5, 6, generator=generator, dtype=dtype) * scale_a
    g = torch.randn(9, 5, generator=generator, dtype=dtype)
    return x, w_b, w_a, g


def warmup_of(value=1.0):
    return torch.tensor(value, dtype=torch.float64)


def backward(scale, x, w_b, w_a, g, warmup=1.0, observe=False, x_needs_grad=True):
    """dL/dx, dL/dW_b, dL/dW_a and the statistics by name."""
    x = x.clone().requires_grad_(x_needs_grad)
    w_b = w_b.clone().requires_grad_()
    w_a = None if w_a is None else w_a.clone().requires_grad_()
    statistics = torch.zeros(len(Statistics._fields), dtype=torch.float64)
    spec = dataclasses.replace(SPEC, scale=scale, observe=observe)
    inputs = (x, w_b, None, w_a, None, None, None, warmup_of(warmup), statistics, spec)
    DualPath.apply(*inputs).backward(g)
    grad_a = None if w_a is None else w_a.grad
    return x.grad, w_b.grad, grad_a, Statistics(*statistics.tolist())._asdict()


@given(st.integers(0, 2**31), st.floats(1e-3, 10))
def test_fixed_scale_matches_autograd_of_the_formula(seed, lam):
    x, w_b, w_a, g = tensors(seed)
    leaves = [t.clone().requires_grad_() for t in (x, w_b, w_a)]
    dual_path(F.linear, *leaves, lam, 'STESign', 'ScaledSign').backward(g)
    got = backward(FixedScale(lam), x, w_b, w_a, g)
    for mine, leaf in zip(got, leaves, strict=False):
        torch.testing.assert_close(mine, leaf.grad, rtol=1e-10, atol=1e-10)


@given(st.integers(0, 2**31), st.floats(1e-3, 10), st.booleans())
def test_adaptive_scale_matches_the_formula(seed, eta, preserve_norm):
    x, w_b, w_a, g = tensors(seed)
    g_b, g_a, grad_a = surrogate_and_branch_gradients(
        F.linear, x, w_b, w_a, g, 'STESign', 'ScaledSign'
    )
    lam = eta * g_b.norm() / (g_a.norm() + 1e-8)
    expected = g_b + lam * g_a
    if preserve_norm:
        expected = expected * g_b.norm() / expected.norm()
    grad_x, _, got_a, statistics = backward(AdaptiveScale(eta, preserve_norm), x, w_b, w_a, g)
    torch.testing.assert_close(grad_x, expected, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got_a, lam * grad_a, rtol=1e-10, atol=1e-10)
    assert statistics['lam'] == pytest.approx(lam.item())
    assert statistics['norm_b'] == pytest.approx(g_b.norm().item())
    assert statistics['norm_a'] == pytest.approx(g_a.norm().item())


@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_correction_has_eta_times_the_length_of_the_surrogate_gradient(seed, eta):
    x, w_b, w_a, g = tensors(seed)
    g_b = backward(None, x, w_b, None, g)[0]
    corrected = backward(AdaptiveScale(eta), x, w_b, w_a, g)[0]
    assert (corrected - g_b).norm().item() == pytest.approx(eta * g_b.norm().item(), rel=1e-6)


@given(st.integers(0, 2**31), st.floats(0.1, 10))
def test_preserved_norm_is_that_of_the_surrogate_gradient(seed, eta):
    x, w_b, w_a, g = tensors(seed)
    g_b = backward(None, x, w_b, None, g)[0]
    corrected = backward(AdaptiveScale(eta, preserve_norm=True), x, w_b, w_a, g)[0]
    assert corrected.norm().item() == pytest.approx(g_b.norm().item(), rel=1e-6)


@pytest.mark.parametrize('factor', [2.0**16, 2.0**-10])
def test_lambda_does_not_change_with_the_scale_of_the_loss(factor):
    x, w_b, w_a, g = tensors()
    plain = backward(AdaptiveScale(0.1), x, w_b, w_a, g)
    scaled = backward(AdaptiveScale(0.1), x, w_b, w_a, g * factor)
    assert scaled[3]['lam'] == pytest.approx(plain[3]['lam'], rel=1e-6)
    torch.testing.assert_close(scaled[0] / factor, plain[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('factor', [1000.0, 0.001])
def test_correction_does_not_change_with_the_scale_of_the_auxiliary_weights(factor):
    x, w_b, w_a, g = tensors()
    plain = backward(AdaptiveScale(0.1), x, w_b, w_a, g)
    scaled = backward(AdaptiveScale(0.1), x, w_b, w_a * factor, g)
    torch.testing.assert_close(scaled[0], plain[0], rtol=1e-5, atol=1e-9)
    # ... so the gradient of W_a grows as 1 / ||W_a||
    torch.testing.assert_close(scaled[2] * factor, plain[2], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('scale', [None, FixedScale(0.0), AdaptiveScale(0.0)])
def test_zero_scale_is_bit_identical_to_a_layer_without_branch(scale):
    x, w_b, w_a, g = tensors(dtype=torch.float32)
    plain = backward(None, x, w_b, None, g)
    with_branch = backward(scale, x, w_b, w_a, g)
    assert torch.equal(plain[0], with_branch[0])
    assert torch.equal(plain[1], with_branch[1])
    assert torch.equal(with_branch[2], torch.zeros_like(w_a))


@pytest.mark.parametrize('preserve_norm', [False, True])
def test_zero_warmup_is_bit_identical_to_a_layer_without_branch(preserve_norm):
    x, w_b, w_a, g = tensors(dtype=torch.float32)
    plain = backward(None, x, w_b, None, g)
    with_branch = backward(AdaptiveScale(0.1, preserve_norm), x, w_b, w_a, g, warmup=0.0)
    assert torch.equal(plain[0], with_branch[0])
    assert torch.equal(with_branch[2], torch.zeros_like(w_a))


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
@pytest.mark.parametrize('preserve_norm', [False, True])
def test_branch_that_is_not_finite_is_left_out_and_counted(bad, preserve_norm):
    x, w_b, w_a, g = tensors()
    w_a[0, 0] = bad
    plain = backward(None, x, w_b, None, g)
    grad_x, grad_b, grad_a, statistics = backward(AdaptiveScale(0.1, preserve_norm), x, w_b, w_a, g)
    assert torch.equal(grad_x, plain[0])
    assert torch.equal(grad_b, plain[1])
    assert torch.equal(grad_a, torch.zeros_like(w_a))
    assert statistics['lam'] == 0
    assert statistics['non_finite'] == 1


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_output_gradient_that_is_not_finite_stays_visible(bad):
    x, w_b, w_a, g = tensors()
    g[0, 0] = bad
    grad_x, grad_b, grad_a, statistics = backward(AdaptiveScale(0.1), x, w_b, w_a, g)
    assert not grad_x.isfinite().all()
    assert not grad_b.isfinite().all()
    assert torch.equal(grad_a, torch.zeros_like(w_a))
    assert statistics['non_finite'] == 1


def test_an_infinite_activation_is_left_out_of_the_branch_as_the_surrogate_leaves_it_out():
    x, w_b, w_a, g = tensors()
    x[0, 0] = float('inf')  # STE's derivative is 0 there, and both norms are finite
    plain = backward(None, x, w_b, None, g)
    grad_x, grad_b, grad_a, statistics = backward(AdaptiveScale(0.1), x, w_b, w_a, g)
    assert grad_x.isfinite().all()
    assert torch.equal(grad_b, plain[1])
    assert torch.equal(grad_a, torch.zeros_like(w_a))
    assert statistics['non_finite'] == 1


def test_steps_that_are_not_finite_add_up():
    x, w_b, w_a, g = tensors()
    w_a[0, 0] = float('nan')
    statistics = torch.zeros(len(Statistics._fields), dtype=torch.float64)
    spec = dataclasses.replace(SPEC, scale=AdaptiveScale(0.1))
    x.requires_grad_()
    for _ in range(3):
        inputs = (x, w_b, None, w_a, None, None, None, warmup_of(), statistics, spec)
        DualPath.apply(*inputs).backward(g)
    assert Statistics(*statistics).non_finite == 3


@pytest.mark.parametrize(
    'scale', [FixedScale(0.1), AdaptiveScale(0.1), AdaptiveScale(2.0, preserve_norm=True)]
)
def test_backward_asks_for_no_value(scale):
    """On a GPU that would wait for it. A tensor on the meta device has none, and asking is an error."""
    meta = (t.to('meta') for t in tensors())
    x, w_b, w_a, g = (t.requires_grad_(i < 3) for i, t in enumerate(meta))
    statistics = torch.zeros(len(Statistics._fields), dtype=torch.float64, device='meta')
    spec = dataclasses.replace(SPEC, scale=scale, observe=True)
    warmup = warmup_of().to('meta')
    out = DualPath.apply(x, w_b, None, w_a, None, None, None, warmup, statistics, spec)
    with pytest.raises(RuntimeError, match='meta'):
        statistics.sum().item()
    out.backward(g)
    assert x.grad.shape == x.shape and w_a.grad.shape == w_a.shape


@given(st.floats(-12, 0))
def test_preserved_norm_holds_for_small_gradients(exponent):
    x, w_b, w_a, g = tensors()
    g = g * 10**exponent
    g_b = backward(None, x, w_b, None, g)[0]
    corrected = backward(AdaptiveScale(2.0, preserve_norm=True), x, w_b, w_a, g)[0]
    assert corrected.norm().item() == pytest.approx(g_b.norm().item(), rel=1e-6)


def test_fp16_norms_do_not_overflow():
    x, w_b, w_a, g = (t.half() for t in tensors())
    x, g = x.repeat(300, 1), g.repeat(300, 1) * 1000  # norms that exceed fp16's 65504
    w_a = w_a / 10
    _, _, grad_a, statistics = backward(AdaptiveScale(0.1), x * 1e-3, w_b, w_a, g)
    assert statistics['norm_b'] > 65504
    assert statistics['non_finite'] == 0
    assert 0 < statistics['lam'] < 1
    assert grad_a.isfinite().all()


def test_norms_are_computed_when_the_input_needs_no_gradient():
    x, w_b, w_a, g = tensors()
    needed = backward(AdaptiveScale(0.1), x, w_b, w_a, g)
    behind_frozen = backward(AdaptiveScale(0.1), x, w_b, w_a, g, x_needs_grad=False)
    assert behind_frozen[0] is None
    assert torch.equal(behind_frozen[2], needed[2])
    assert behind_frozen[3] == needed[3]


def test_cosine_and_clipped_share_are_those_of_the_gradients():
    x, w_b, w_a, g = tensors()
    g_b, g_a, _ = surrogate_and_branch_gradients(F.linear, x, w_b, w_a, g, 'STESign', 'ScaledSign')
    statistics = backward(AdaptiveScale(0.1), x, w_b, w_a, g, observe=True)[3]
    cos = (g_b * g_a).sum() / (g_b.norm() * g_a.norm())
    assert statistics['cos'] == pytest.approx(cos.item())
    assert statistics['clipped'] == pytest.approx((x.abs() > 1).double().mean().item())


def test_a_branch_with_zero_gradient_leaves_the_surrogate_gradient():
    x, w_b, w_a, g = tensors()
    plain = backward(None, x, w_b, None, g)
    grad_x, _, _, statistics = backward(AdaptiveScale(0.1), x, w_b, torch.zeros_like(w_a), g)
    assert torch.equal(grad_x, plain[0])
    assert statistics['non_finite'] == 0


def test_empty_batch_gives_zero_gradients():
    _, w_b, w_a, _ = tensors()
    none = torch.zeros(0, 6, dtype=torch.float64)
    _, grad_b, grad_a, statistics = backward(
        AdaptiveScale(0.1), none, w_b, w_a, none[:, :5], observe=True
    )
    assert statistics['cos'] == statistics['clipped'] == 0
    assert torch.equal(grad_b, torch.zeros_like(w_b))
    assert torch.equal(grad_a, torch.zeros_like(w_a))
    assert statistics['lam'] == 0


def parameter_free(out):
    return out.sum()


def frozen(out):
    return (out @ torch.ones(5, 2, dtype=out.dtype)).relu().sum()


@pytest.mark.parametrize('head', [parameter_free, frozen])
@pytest.mark.parametrize('scale', [None, FixedScale(0.1)])
@pytest.mark.parametrize('argument', [0, 1])
def test_second_derivatives_are_rejected_behind_a_head_whose_gradient_is_constant(
    head, scale, argument
):
    """The gradient g of the output has no graph there."""
    x, w_b, w_a, _ = tensors()
    leaf = (x, w_b)[argument].requires_grad_()
    spec = dataclasses.replace(SPEC, scale=scale)
    out = EagerDualPath.apply(x, w_b, None, w_a, *[None] * 3, warmup_of(), None, spec)
    (gradient,) = torch.autograd.grad(head(out), leaf, create_graph=True)
    assert gradient.requires_grad
    with pytest.raises(RuntimeError, match='differentiate twice'):
        gradient.sum().backward()


def test_second_derivatives_are_rejected():
    x, w_b, w_a, _ = tensors()
    x.requires_grad_()
    spec = dataclasses.replace(SPEC, activation=ApproxSign(), scale=FixedScale(0.1))
    (grad_x,) = torch.autograd.grad(
        DualPath.apply(x, w_b, None, w_a, *[None] * 3, warmup_of(), None, spec).square().sum(),
        x,
        create_graph=True,
    )
    with pytest.raises(RuntimeError, match='differentiate twice'):
        grad_x.sum().backward()
