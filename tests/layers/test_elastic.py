"""Layers with elastic binarizers, against autograd of the formula in float64."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import binary_weight, elastic

from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.layers import BinaryActivation
from surge_mm.ops import ElasticBinary, ElasticSign, Step, WeightBinarizer
from surge_mm.utils.errors import UsageError

BOTH = pytest.mark.parametrize('name', ['ElasticSign', 'ElasticBinary'])
BITS = pytest.mark.parametrize('bits', [1, 2])
CLOSE = {'rtol': 1e-10, 'atol': 1e-10}


def started(layer, alpha=0.7):
    """Set the scale of a layer as after the first training batch, and a shift."""
    with torch.no_grad():
        layer.activation_scale.fill_(alpha)
        layer.activation_scale_bits.fill_(layer.activation.bits)
        if layer.activation_shift is not None:
            layer.activation_shift.normal_(std=0.3)
    return layer


def linear(name, bits=1, weight='ScaledSign', lam=0.3, **options):
    torch.manual_seed(0)
    return SurgeLinear(
        7,
        5,
        activation={'type': name, 'bits': bits},
        weight={'type': weight},
        compensator=None if lam is None else {'scale': lam, 'init': 'kaiming'},
        **options,
    )


@BITS
@BOTH
@pytest.mark.parametrize('lam', [None, 0.3])
@pytest.mark.parametrize('weight', ['BiT', 'BiBERT', 'AdaBin', 'ReCU', 'Real'])
def test_every_gradient_of_a_linear_layer_is_that_of_autograd(name, bits, weight, lam):
    layer = started(linear(name, bits, weight, lam, dtype=torch.float64))
    if hasattr(layer.weight_binarizer, 'follow'):
        layer.weight_binarizer.follow(0.4)
    naive, x = copy.deepcopy(layer), torch.randn(2, 3, 7, dtype=torch.float64)
    x_naive = x.clone().requires_grad_()
    shift = 0 if naive.activation_shift is None else naive.activation_shift
    gain = 1 if naive.weight_gain is None else naive.weight_gain
    q_x = elastic(x_naive + shift, naive.activation_scale, name, bits)
    expected = F.linear(q_x, gain * binary_weight(naive.weight, weight, 0.4), naive.bias)
    if lam is not None:
        branch = lam * F.linear(x_naive, naive.aux_weight)
        expected = expected + branch - branch.detach()
    g = torch.randn_like(expected)
    expected.backward(g)

    out = layer(x.requires_grad_())
    out.backward(g)
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(x.grad, x_naive.grad, **CLOSE)
    for (key, p), q in zip(layer.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, **CLOSE, msg=lambda m, key=key: f'{key}: {m}')
    with torch.no_grad():  # in evaluation, by sums of signs
        torch.testing.assert_close(layer.eval()(x), expected.detach(), **CLOSE)


@BITS
@BOTH
def test_every_gradient_without_a_layer_is_that_of_autograd(name, bits):
    torch.manual_seed(0)
    module = started(BinaryActivation({'type': name, 'bits': bits}, features=7)).double()
    naive, x = copy.deepcopy(module), torch.randn(2, 3, 7, dtype=torch.float64)
    x_naive = x.clone().requires_grad_()
    shift = 0 if naive.activation_shift is None else naive.activation_shift
    expected = elastic(x_naive + shift, naive.activation_scale, name, bits)
    g = torch.randn_like(expected)
    expected.backward(g)
    out = module(x.requires_grad_())
    out.backward(g)
    torch.testing.assert_close(out, expected, **CLOSE)
    torch.testing.assert_close(x.grad, x_naive.grad, **CLOSE)
    for p, q in zip(module.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, **CLOSE)


@pytest.mark.parametrize('eta', [None, 0.1])
def test_with_alpha_1_the_elastic_sign_is_the_clipped_estimator_of_the_shifted_input(eta):
    """The layer with STESign gets the shifted input, and its branch the same."""
    compensator = None if eta is None else {'eta': eta}
    elastic_layer = started(linear('ElasticSign', lam=None), alpha=1.0)
    settings = {'activation': {'type': 'STESign'}, 'compensator': compensator}
    plain = SurgeLinear(7, 5, **settings)
    plain.load_state_dict({'weight': elastic_layer.weight, 'bias': elastic_layer.bias})
    if eta is not None:
        other = SurgeLinear(7, 5, activation={'type': 'ElasticSign'}, compensator=compensator)
        state = elastic_layer.state_dict()
        other.load_state_dict(state)
        elastic_layer = other
    x = torch.randn(6, 7) * 2
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    g = torch.randn(6, 5)
    out = elastic_layer(ours)
    expected = plain(theirs + elastic_layer.activation_shift.detach())
    out.backward(g)
    expected.backward(g)
    assert torch.equal(out, expected)
    assert torch.equal(ours.grad, theirs.grad)
    assert torch.equal(elastic_layer.weight.grad, plain.weight.grad)


@pytest.mark.parametrize(
    ('name', 'bits', 'factor'),
    [
        ('ElasticSign', 1, 2),
        ('ElasticSign', 2, 2),
        ('ElasticBinary', 1, 4),
        ('ElasticBinary', 2, 4 / 3**0.5),
    ],
)
def test_the_scale_starts_from_the_first_training_batch_and_no_other(name, bits, factor):
    layer, first, second = linear(name, bits), torch.randn(9, 7), torch.randn(9, 7)
    with torch.no_grad():
        layer.eval()(first)
    assert layer.activation_scale == 1
    layer.train()(first)
    assert layer.activation_scale.item() == pytest.approx(factor * first.abs().mean().item())
    for again in (layer, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        before = again.activation_scale.clone()
        again(second)
        assert torch.equal(again.activation_scale, before)


def test_a_loaded_scale_stays_and_one_of_other_bits_starts_again():
    layer, x = linear('ElasticSign', 2), torch.randn(9, 7)
    layer(x)
    state = layer.state_dict()
    same, fewer = linear('ElasticSign', 2), linear('ElasticSign', 1)
    for other in (same, fewer):
        other.load_state_dict(state)
        other(10 * x)
    assert torch.equal(same.activation_scale, layer.activation_scale)
    mean = (10 * x).abs().mean().item()
    assert fewer.activation_scale.item() == pytest.approx(2 * mean)
    layer.reset_parameters()
    assert layer.activation_scale == 1
    layer(x)
    assert layer.activation_scale != 1


@pytest.mark.parametrize(
    'make', [lambda: linear('ElasticSign'), lambda: BinaryActivation({'type': 'ElasticBinary'})]
)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_scale_that_is_not_finite_is_not_loaded(make, value):
    layer = torch.nn.ModuleDict({'dense': make()})
    state = layer.state_dict()
    state['dense.activation_scale'] = torch.tensor(value)
    before = layer['dense'].activation_scale.clone()
    with pytest.raises(
        UsageError, match=r"'dense.activation_scale' of the checkpoint is \[(nan|inf)\]"
    ):
        layer.load_state_dict(state)
    assert torch.equal(layer['dense'].activation_scale, before)


def test_a_first_batch_that_is_not_finite_is_an_error():
    with pytest.raises(UsageError, match='scale starts from the first training batch'):
        linear('ElasticSign')(torch.full((2, 7), float('nan')))


@BOTH
def test_a_scale_below_its_bound_is_used_as_the_bound_and_can_grow(name):
    layer = started(linear(name, lam=None), alpha=-0.5)
    x = torch.rand(9, 7)
    out = layer(x)
    out.sum().backward()
    assert out.isfinite().all() and layer.activation_scale.grad != 0


@pytest.mark.parametrize('name, slope', [('ElasticSign', 1), ('ElasticBinary', -0.75 + 1)])
def test_the_gradient_of_alpha_in_float16_is_summed_in_float32(name, slope):
    layer = BinaryActivation({'type': name})
    layer.activation_scale_bits.fill_(1)  # alpha has started, at 1
    x = torch.full((512, 1024), 0.75, dtype=torch.float16)  # the sum of the slopes is above 65504
    layer(x).sum().backward()
    assert layer.activation_scale.grad.item() == pytest.approx(slope * x.numel() ** 0.5)


def test_values_at_the_thresholds():
    alpha = torch.tensor(0.3)
    half = torch.tensor([0.15, 0.149, -0.0, 0.3])
    assert ElasticBinary().values(half, alpha).tolist() == [alpha, 0, 0, alpha]
    zeros = ElasticSign().values(torch.tensor([0.0, -0.0]), alpha)
    assert zeros.tolist() == [alpha, -alpha]
    assert Step()(torch.tensor([0.0, -0.0, 1e-9, float('-inf')])).tolist() == [0, 0, 1, 0]


def test_a_convolution_refuses_a_learned_scale():
    with pytest.raises(UsageError, match=r'SurgeConv2d: activation=.*learned scale.*RSign'):
        SurgeConv2d(4, 4, 3, activation={'type': 'ElasticSign'})


@pytest.mark.parametrize('bits', [0, 3, True])
def test_other_bits_are_refused(bits):
    with pytest.raises(UsageError, match='bits='):
        ElasticSign(bits=bits)


def test_learned_scales_and_shifts_have_a_parameter_group_of_their_own():
    from mmengine.optim import build_optim_wrapper

    layer = torch.nn.Sequential(linear('ElasticSign'))
    keys = {'activation_scale': {'lr_mult': 0.2, 'decay_mult': 0.0}}
    wrapper = build_optim_wrapper(
        layer,
        {
            'type': 'OptimWrapper',
            'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.01},
            'paramwise_cfg': {'custom_keys': keys},
        },
    )
    (group,) = [g for g in wrapper.param_groups if g['params'][0] is layer[0].activation_scale]
    assert len(group['params']) == 1
    assert group['lr'] == pytest.approx(2e-4) and group['weight_decay'] == 0


def test_weight_binarizers_of_language_take_the_mean_of_a_row_or_of_the_matrix():
    w = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -1.0, 5.0]])
    rows = WeightBinarizer.build({'type': 'BiBERT'})(w)
    assert rows[0].tolist() == [-2, 2, 2]  # sign(0) = +1
    torch.testing.assert_close(rows[1], torch.tensor([-7, -7, 7]) / 3)
    matrix = WeightBinarizer.build({'type': 'BiT'})(w)
    torch.testing.assert_close(matrix, torch.tensor([[-1, 1, 1], [-1, -1, 1]]) * 13 / 6)


@BOTH
def test_compiled_layers_start_their_scale_and_have_the_gradients_of_the_eager_ones(name):
    model = torch.nn.Sequential(
        linear(name), torch.nn.LayerNorm(5), BinaryActivation({'type': 'ElasticSign'}, 5)
    )
    other = copy.deepcopy(model)
    compiled = torch.compile(other, backend='aot_eager')
    for _ in range(2):  # the first batch starts the scales
        x = torch.rand(6, 7)
        for run in (model, compiled):
            run.zero_grad()
            run(x).square().sum().backward()
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q)
            torch.testing.assert_close(p.grad, q.grad)
    whole = torch.compile(other, backend='aot_eager', fullgraph=True)
    assert torch.equal(whole(x), model(x))
