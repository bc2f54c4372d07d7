"""The layers in a training loop: gradients, autocast, checkpointing, accumulation."""

import copy

import pytest
import torch
from helpers.small_network import gradients, loss_of, network
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from surge_mm.layers import BinaryActivation, SurgeConv2d, SurgeLinear, compensated_layers


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8)


@pytest.mark.parametrize('compensator', [{'eta': 0.1}, {'eta': 0.5, 'preserve_norm': True}])
def test_every_parameter_gets_a_gradient(x, compensator):
    model = network(compensator)
    loss_of(model, x).backward()
    for name, grad in gradients(model).items():
        assert grad.isfinite().all() and grad.norm() > 0, name


def test_zero_scale_still_gives_auxiliary_weights_a_gradient(x):
    model = network({'scale': 0.0})
    loss_of(model, x).backward()
    assert torch.equal(model[0].aux_weight.grad, torch.zeros_like(model[0].aux_weight))


def test_bf16_autocast_comes_close_to_float32(x):
    model = network({'eta': 0.1})
    loss_of(model, x).backward()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast(x.device.type, torch.bfloat16):
        loss = loss_of(model, x)
    loss.backward()
    assert model[0].weight.grad.dtype == torch.float32
    for name, grad in gradients(model).items():
        error = (grad - expected[name]).norm() / expected[name].norm()
        assert error < 0.25, name  # signs of activations near 0 flip
    for _, layer in compensated_layers(model):
        assert layer.ags_statistics[0] > 0


def test_autocast_computes_a_layer_in_bf16_and_keeps_gradients_in_float32(x):
    conv = SurgeConv2d(3, 8, 3)
    x.requires_grad_()
    with torch.autocast(x.device.type, torch.bfloat16):
        out = conv(x)
    out.float().square().mean().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad.dtype == torch.float32
    got = x.grad.clone()
    x.grad = None
    conv(x).square().mean().backward()
    torch.testing.assert_close(got, x.grad, rtol=0.1, atol=1e-4)


@pytest.mark.parametrize('use_reentrant', [True, False])
def test_activation_checkpointing_changes_no_gradient(x, use_reentrant):
    model = network({'eta': 0.1})
    x.requires_grad_()
    loss_of(model, x).backward()
    expected = gradients(model)
    model.zero_grad()
    checkpoint(model, x, use_reentrant=use_reentrant).square().mean().backward()
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name])


def test_accumulated_gradients_are_the_sum_of_those_of_the_parts(x):
    model = network({'eta': 0.1}).eval()
    parts = []
    for part in x.split(2):
        model.zero_grad()
        loss_of(model, part).backward()
        parts.append(gradients(model))
    model.zero_grad()
    for part in x.split(2):
        loss_of(model, part).backward()
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, parts[0][name] + parts[1][name])


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
    'make, shape',
    [
        (lambda **kw: SurgeLinear(8, 6, **kw), (8,)),
        (lambda **kw: SurgeLinear(8, 6, **kw), (4, 8)),
        (lambda **kw: SurgeLinear(8, 6, **kw), (2, 4, 8)),
        (lambda **kw: SurgeLinear(8, 6, **kw), (2, 3, 4, 8)),
        (lambda **kw: SurgeConv2d(8, 6, 1, **kw), (2, 8, 5, 5)),
        (lambda **kw: SurgeConv2d(8, 6, 1, **kw), (8, 5, 5)),
    ],
    ids=['vector', 'matrix', '3 axes', '4 axes', 'convolution', 'convolution of one image'],
)
def test_an_activation_behind_a_layer_may_work_in_place(make, shape, bias):
    torch.manual_seed(0)
    layer, x = make(bias=bias), torch.randn(shape)
    results = []
    for inplace in (False, True):
        layer.zero_grad()
        out = nn.Sequential(layer, nn.ReLU(inplace=inplace))(x)
        out.square().sum().backward()
        results.append([out.detach(), layer.weight.grad, layer.aux_weight.grad])
    for plain, in_place in zip(*results, strict=True):
        assert torch.equal(plain, in_place)


def test_a_deep_copy_trains_apart(x):
    model = network({'eta': 0.1})
    twin = copy.deepcopy(model)
    loss_of(model, x).backward()
    assert twin[0].ags_statistics.abs().sum() == 0


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'mode', [lambda: torch.device('meta'), FakeTensorMode], ids=['meta', 'fake']
)
def test_shapes_are_computed_without_values(training, mode):
    with mode():
        model = network({'eta': 0.1}).train(training)
        model[0].warn_as = 'first'
        assert model(torch.ones(4, 3, 8, 8)).shape == (4, 5)
    assert model[0].warn_as == 'first'


@pytest.mark.parametrize(
    'make, shape',
    [
        (lambda **given: SurgeConv2d(8, 4, 1, **given), (257, 8, 1, 1)),
        (lambda **given: SurgeLinear(8, 4, **given), (257, 8)),
        (lambda **given: BinaryActivation(given['activation'], 8), (257, 8)),
    ],
)
def test_gradients_of_shift_and_bias_in_bfloat16_are_summed_in_float32(make, shape):
    layer = make(activation={'type': 'RSign'})
    if not isinstance(layer, BinaryActivation):
        nn.init.constant_(layer.weight, 0.25)  # each input has the gradient 4 * 0.25 = 1
    x = torch.zeros(shape, dtype=torch.bfloat16)  # where the derivative of RSign is 2
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x)
    out.backward(torch.ones_like(out))
    assert out.dtype == torch.bfloat16  # 8 bits: neither 514 nor 257
    assert (layer.activation_shift.grad == 514).all()
    if not isinstance(layer, BinaryActivation):
        assert (layer.bias.grad == 257).all()


def test_a_layer_keeps_the_mark_by_which_transformers_leaves_initialized_weights_alone():
    linear, conv = nn.Linear(4, 4), nn.Conv2d(4, 4, 3)
    linear._is_hf_initialized = conv._is_hf_initialized = True
    for layer in (SurgeLinear.from_float(linear), SurgeConv2d.from_float(conv)):
        assert layer._is_hf_initialized
    assert not hasattr(SurgeLinear.from_float(nn.Linear(4, 4)), '_is_hf_initialized')
