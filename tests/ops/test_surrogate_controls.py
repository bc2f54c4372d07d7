"""The controls gain, floor and window of the surrogate derivative, against their formula and through every entrance."""

import copy

import pytest
import torch
from helpers.formula import PLAIN, surrogate_sign
from mmengine.registry import MODELS
from torch import nn

import surge_mm
from surge_mm.ops import ActivationBinarizer, Scheduled, chunking

CONTROLS = [
    {'gain': 1.3},
    {'floor': 0.2},
    {'window': 'rms'},
    {'window': 'rms', 'k': 2},
    {'gain': 0.7, 'floor': 0.4, 'window': 'rms', 'k': 3},
]
NAMES = ['gain', 'floor', 'rms', 'rms of k 2', 'all']
PROGRESS = 0.3


def activation(name, controls):
    binarizer = ActivationBinarizer.build({'type': name, **controls})
    if isinstance(binarizer, Scheduled):
        binarizer.follow(PROGRESS)
    return binarizer


def expected_derivative(x, name, gain=1.0, floor=0.0, window=None, k=1.0):
    """``gain max(d(x / r), floor)`` with d by autograd, in the dtype of x."""
    r = 1.0 if window is None else k * x.square().mean().sqrt()
    scaled = (x / r).requires_grad_()
    (derivative,) = torch.autograd.grad(surrogate_sign(scaled, name, PROGRESS).sum(), scaled)
    return gain * derivative.clamp(min=floor)


def gradient(x, settings, scale=None):
    """dL/dx of a linear layer whose weights are 1, so that g is the sum of the output gradients."""
    layer = surge_mm.SurgeLinear(
        x.shape[1],
        1,
        bias=False,
        dtype=x.dtype,
        activation=settings,
        weight={'type': 'Sign'},
        compensator=scale,
    )
    nn.init.ones_(layer.weight)
    if isinstance(layer.activation, Scheduled):
        layer.activation.follow(PROGRESS)
    x = x.clone().requires_grad_()
    layer(x).sum().backward()
    return x.grad


@pytest.mark.parametrize('controls', CONTROLS, ids=NAMES)
@pytest.mark.parametrize('name', PLAIN)
def test_gradient_of_a_layer_is_that_of_the_formula(name, controls):
    x = torch.randn(40, 12, dtype=torch.float64) * 1.7
    expected = expected_derivative(x, name, **controls)
    got = gradient(x, {'type': name, **controls})
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('k', [1, 2, 3])
def test_rms_window_of_ste_is_the_estimator_clipped_at_k_rms(k):
    x = torch.randn(50, 8, dtype=torch.float64) * 4
    inside = x.abs() <= k * (x.square().sum() / 400) ** 0.5
    assert inside.sum() > 0
    got = gradient(x, {'type': 'STESign', 'window': 'rms', 'k': k})
    assert torch.equal(got, inside.double())


def test_floor_leaves_the_derivative_inside_the_window_of_ste():
    x = torch.tensor([[-3.0, -1.0, 0.0, 0.9, 1.1]])
    assert gradient(x, {'type': 'STESign', 'floor': 0.25}).tolist() == [[0.25, 1, 1, 1, 0.25]]


def test_rms_is_that_of_the_whole_batch_where_the_work_is_done_in_chunks(monkeypatch):
    x = torch.randn(40, 12, dtype=torch.float64) * torch.linspace(0.1, 3, 40).view(-1, 1).double()
    monkeypatch.setattr(chunking, 'CHUNK', 7)
    got = gradient(x, {'type': 'ApproxSign', 'window': 'rms'})
    torch.testing.assert_close(got, expected_derivative(x, 'ApproxSign', window='rms'))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_rms_does_not_overflow_in_half_precision(dtype):
    x = torch.randn(64, 64).to(dtype) * 1000  # squares that exceed fp16's 65504
    distance = x.double().abs() / x.double().square().mean().sqrt()
    got = gradient(x, {'type': 'STESign', 'window': 'rms'})
    assert got.dtype == dtype
    wrong = got.bool() != (distance <= 1)
    assert ((distance[wrong] - 1).abs() < torch.finfo(dtype).eps).all()


@pytest.mark.parametrize('x', [torch.zeros(3, 4), torch.zeros(0, 4)], ids=['zeros', 'empty'])
def test_rms_of_zeros_and_of_an_empty_batch(x):
    assert torch.equal(
        gradient(x, {'type': 'STESign', 'window': 'rms'}), torch.ones_like(x)
    )  # 0 <= 0 is inside


def test_without_controls_the_gradient_is_bit_identical():
    x = torch.randn(30, 6)
    assert torch.equal(
        gradient(x, {'type': 'ApproxSign', 'gain': 1, 'floor': 0}),
        gradient(x, {'type': 'ApproxSign'}),
    )


@pytest.mark.parametrize('compensator', [{'eta': 0.3}, {'scale': 0.2}])
def test_the_branch_is_added_to_the_controlled_gradient(compensator):
    x = torch.randn(30, 6, dtype=torch.float64)
    controls = {'type': 'STESign', 'gain': 1.5, 'floor': 0.1}
    g_b = expected_derivative(x, **{'name': 'STESign', 'gain': 1.5, 'floor': 0.1})
    g_a = torch.ones_like(x)  # W_a is a copy of the weights at construction, taken anew by train()
    layer = surge_mm.SurgeLinear(
        6, 1, False, dtype=x.dtype, activation=controls, compensator=compensator
    )
    nn.init.ones_(layer.weight)
    x.requires_grad_()
    layer.train()(x).sum().backward()
    lam = compensator.get('scale', 0.3 * g_b.norm() / (g_a.norm() + 1e-8))
    torch.testing.assert_close(x.grad, g_b + lam * g_a, rtol=1e-10, atol=1e-10)


def test_the_value_of_a_layer_does_not_depend_on_the_controls():
    x = torch.randn(2, 3, 8, 8)
    torch.manual_seed(1)
    plain = surge_mm.SurgeConv2d(3, 4, 3)
    torch.manual_seed(1)
    controlled = surge_mm.SurgeConv2d(3, 4, 3, activation={'type': 'ApproxSign', **CONTROLS[-1]})
    assert torch.equal(plain(x), controlled(x))
    assert torch.equal(plain.eval()(x), controlled.eval()(x))


def controls_of(model):
    return {
        name: str(module.activation)
        for name, module in model.named_modules()
        if isinstance(module, surge_mm.BinaryLayer)
    }


def test_conv_cfg_binary_rules_and_the_default_of_binarize_reach_the_layers():
    controls = {'type': 'STESign', 'window': 'rms', 'k': 2}
    shown = "STESign(surrogate_window='rms', surrogate_k=2)"
    conv_cfg = {'type': 'surge_mm.SurgeConv2d', 'activation': controls, 'compensator': None}
    cfg = {'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 8, 'conv_cfg': conv_cfg}
    backbone = MODELS.build(cfg)
    assert set(controls_of(backbone).values()) == {shown}

    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), *(nn.Sequential(nn.PReLU(), nn.Conv2d(8, 8, 3)) for _ in range(2))
    )
    gain = {'name': '2.*', 'to': {'activation': {'type': 'ApproxSign', 'gain': 1.1}}}
    surge_mm.binarize(model, rules=[gain], binary={'activation': controls})
    assert controls_of(model) == {'1.1': shown, '2.1': 'ApproxSign(surrogate_gain=1.1)'}


def test_compiled_layers_have_the_gradient_of_the_formula():
    torch._dynamo.reset()
    settings = {'type': 'ApproxSign', **CONTROLS[-1]}
    layers = [surge_mm.SurgeConv2d(3, 3, 3, padding=1, activation=settings) for _ in range(2)]
    eager = nn.Sequential(layers[0], nn.PReLU(3), layers[1])
    model = copy.deepcopy(eager)
    compiled = torch.compile(model, backend='aot_eager', dynamic=True, fullgraph=True)
    for size in (8, 9):
        x = torch.randn(2, 3, size, size + 1)
        for one, run in ((eager, eager), (model, compiled)):
            one.zero_grad()
            run(x).square().mean().backward()
        for p, q in zip(eager.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_gradients_under_autocast_are_close_to_those_in_float64(dtype):
    torch.manual_seed(0)
    settings = {'type': 'ApproxSign', **CONTROLS[-1]}
    layer = surge_mm.SurgeConv2d(8, 8, 3, padding=1, activation=settings, compensator=None)
    exact = copy.deepcopy(layer).double()
    x, g = torch.randn(4, 8, 6, 6), torch.randn(4, 8, 6, 6)
    inputs = [x.requires_grad_(), x.detach().double().requires_grad_()]
    with torch.autocast(x.device.type, dtype):
        out = layer(inputs[0])
    out.backward(g.to(dtype))
    exact(inputs[1]).backward(g.double())
    error = (inputs[0].grad - inputs[1].grad).norm() / inputs[1].grad.norm()
    assert error < 4 * torch.finfo(dtype).eps


def test_checkpointed_layers_have_the_same_gradients():
    settings = {'type': 'STESign', 'window': 'rms', 'floor': 0.1}
    model = nn.Sequential(surge_mm.SurgeConv2d(3, 3, 3, activation=settings), nn.PReLU(3))
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    (plain,) = torch.autograd.grad(model(x).square().sum(), x)
    out = torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False)
    (again,) = torch.autograd.grad(out.square().sum(), x)
    assert torch.equal(plain, again)


def test_vmap_computes_the_rms_of_each_sample():
    settings = {'type': 'STESign', 'window': 'rms'}
    layer = surge_mm.SurgeLinear(6, 2, dtype=torch.float64, activation=settings, compensator=None)
    x = torch.randn(5, 3, 6, dtype=torch.float64)
    per_sample = torch.func.vmap(torch.func.grad(lambda one: layer(one).sum()))(x)
    for one, got in zip(x, per_sample, strict=True):
        leaf = one.clone().requires_grad_()
        layer(leaf).sum().backward()
        torch.testing.assert_close(got, leaf.grad)


@pytest.mark.parametrize(
    'cfg, message',
    [
        ({'gain': 0}, 'gain=0 must be a finite number above 0'),
        ({'gain': 1e39}, 'gain=1e.39 must be a finite number above 0 in float32'),
        ({'gain': -1.0}, r'gain=-1\.0 must'),
        ({'gain': float('inf')}, 'gain=inf must'),
        ({'gain': 'big'}, "gain='big' must"),
        ({'floor': -0.1}, r'floor=-0\.1 must be a number in 0 to 1'),
        ({'floor': 1.5}, r'floor=1\.5 must'),
        ({'window': 'std'}, "window='std' must be 'rms'"),
        ({'window': 'rms', 'k': 0}, 'k=0 must be a finite number above 0'),
        ({'k': 2}, "k=2 is the width of window='rms'"),
    ],
)
def test_a_control_out_of_range_is_named(cfg, message):
    with pytest.raises(ValueError, match=rf"activation=\{{'type': 'ApproxSign'.*: {message}"):
        surge_mm.SurgeConv2d(3, 3, 3, activation={'type': 'ApproxSign', **cfg})


def test_an_argument_of_the_binarizer_itself_comes_before_a_control():
    class Steep(ActivationBinarizer):
        def __init__(self, k=1.0):
            self.k = k

        def derivative(self, x):
            return torch.full_like(x, self.k)

    try:
        binarizer = ActivationBinarizer.build({'type': 'Steep', 'k': 5.0, 'gain': 2})
    finally:
        del ActivationBinarizer.known['Steep']
    assert (binarizer.k, binarizer.surrogate_gain) == (5.0, 2)
    assert binarizer.surrogate(torch.zeros(1), None).item() == 10
