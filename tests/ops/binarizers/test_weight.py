import pytest
import torch
from helpers.formula import binary_weight

from surge_mm.ops import Scheduled, WeightBinarizer


def built(name, progress=0.0):
    binarizer = WeightBinarizer.build({'type': name})
    if isinstance(binarizer, Scheduled):
        binarizer.follow(progress)
    return binarizer


@pytest.mark.parametrize('progress', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('name', sorted(WeightBinarizer.known))
@pytest.mark.parametrize('shape', [(6, 3, 3, 3), (5, 7), (5, 2)])
def test_value_and_gradient_equal_the_formula(name, shape, progress):
    w = (torch.randn(shape, dtype=torch.float64) * 1.5 + 0.2).requires_grad_()
    grad_q = torch.randn(shape, dtype=torch.float64)
    expected = binary_weight(w, name, progress)
    (expected_grad,) = torch.autograd.grad(expected, w, grad_q)
    binarizer = built(name, progress)
    torch.testing.assert_close(binarizer(w.detach()), expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        binarizer.gradient(w.detach(), grad_q), expected_grad, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32, torch.float64])
def test_the_scale_of_libra_is_1_for_filters_of_two_weights(dtype):
    """log2 mean(|z|) = -1/2 is a tie, which rounding errors must not decide."""
    w = torch.randn(200, 2, dtype=dtype)
    apart = w[:, 0] != w[:, 1]
    expected = torch.where(w > w.flip(1), 1.0, -1.0)
    assert torch.equal(built('Libra')(w)[apart], expected.to(dtype)[apart])


@pytest.mark.parametrize('name', sorted(set(WeightBinarizer.known) - {'Real'}))
def test_a_filter_takes_two_values(name):
    q = built(name)(torch.randn(4, 3, 3, 3))
    assert all(len(filter.unique()) == 2 for filter in q)


def test_a_binarizer_without_gradient_cannot_be_built():
    with pytest.raises(TypeError, match='abstract'):
        type('Half', (WeightBinarizer,), {'__call__': lambda self, w: w})()
    del WeightBinarizer.known['Half']


def test_recu_clamps_from_tau_0_85_to_0_99():
    binarizer = built('ReCU', 0)
    assert binarizer.tau == pytest.approx(0.85)
    binarizer.follow(1)
    assert binarizer.tau == pytest.approx(0.99)


@pytest.mark.parametrize('name', sorted(WeightBinarizer.known))
def test_a_filter_of_equal_weights_has_finite_values_and_gradients_and_leaves_the_others_as_they_are(
    name,
):
    binarizer = built(name, progress=0.5)
    w = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    others = binarizer(w)[1:]
    w[0] = 0.25
    q_w, gradient = binarizer(w), binarizer.gradient(w, torch.randn_like(w))
    assert torch.isfinite(q_w).all() and torch.isfinite(gradient).all()
    assert torch.equal(q_w[1:], others) or not binarizer.per_filter
    if name in ('Libra', 'AdaBin'):
        assert (q_w[0] == {'Libra': 0, 'AdaBin': 0.25}[name]).all()


@pytest.mark.parametrize('name', ['Libra', 'ReCU', 'AdaBin'])
def test_filters_of_one_weight_are_refused_where_their_deviation_is_needed(name):
    with pytest.raises(ValueError, match=rf'{name}.*\(8, 1, 1, 1\) have 1\. Take another'):
        built(name).check((8, 1, 1, 1))
    built(name).check((8, 2, 1, 1))
    built('ScaledSign').check((8, 1, 1, 1))


@pytest.mark.parametrize(
    'cfg',
    [
        {'type': 'ReCU', 'tau_max': 1.0},
        {'type': 'Libra', 't_min': -1},
        {'type': 'AdaBin', 't_max': 0},
    ],
)
def test_an_argument_out_of_range_is_named(cfg):
    with pytest.raises(ValueError, match=list(cfg)[1]):
        WeightBinarizer.build(cfg)


def test_scaled_sign_has_one_magnitude_per_filter():
    q = WeightBinarizer.build({'type': 'ScaledSign'})(torch.randn(4, 3, 3, 3))
    assert all(len(filter.abs().unique()) == 1 for filter in q)


def test_a_binarizer_without_values_says_what_it_lacks():
    half = type('Half', (WeightBinarizer,), {'gradient': lambda self, w, grad_q: grad_q})()
    with pytest.raises(TypeError, match='Half must define two_values'):
        half(torch.randn(2, 3))


@pytest.mark.parametrize('name', ['Sign', 'AdaBin'])
def test_a_gain_multiplies_both_values_of_a_filter(name):
    w, gain = torch.randn(5, 3, 3, 3), torch.randn(5, 1, 1, 1)
    binarizer = WeightBinarizer.build({'type': name})
    two = binarizer.two_values(w).with_gain(gain)
    q_w = two.alpha * two.z.sign() + (0 if two.offset is None else two.offset)
    torch.testing.assert_close(q_w, gain * binarizer(w))
    assert binarizer.two_values(w).with_gain(None).alpha.equal(binarizer.two_values(w).alpha)


@pytest.mark.parametrize(
    'name', sorted(name for name, cls in WeightBinarizer.known.items() if cls.per_filter)
)
def test_a_filter_that_is_binarized_alone_has_the_values_and_the_gradient_it_has_among_others(name):
    torch.manual_seed(0)
    w, g = torch.randn(2, 5, 7)
    binarizer = WeightBinarizer.build({'type': name})
    for few in ([3], [0, 2, 4]):
        assert torch.equal(binarizer(w[few]), binarizer(w)[few])
        assert torch.equal(binarizer.gradient(w[few], g[few]), binarizer.gradient(w, g)[few])
