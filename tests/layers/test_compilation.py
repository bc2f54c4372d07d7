"""Compiled layers have the gradients of the eager ones, and follow their schedules."""

import copy

import pytest
import torch
from helpers.small_network import gradients, loss_of, network
from torch import nn

from surge_mm.layers import SurgeConv2d, compensated_layers
from surge_mm.ops import Scheduled


def assert_same_gradients(model, compiled, x):
    model.zero_grad()
    loss_of(model, x).backward()
    expected = gradients(model)
    model.zero_grad()
    loss_of(compiled, x).backward()
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8)


@pytest.mark.parametrize(
    'compensator',
    [
        None,
        {'scale': 0.1},
        {'eta': 0.1},
        {'eta': 0.5, 'preserve_norm': True},
        {'eta': 0.5, 'dtype': 'bfloat16'},
    ],
    ids=['ste', 'fixed', 'ags', 'preserve_norm', 'bfloat16'],
)
def test_compiled_model_has_the_gradients_of_the_eager_one(x, compensator):
    model = network(compensator)
    compiled_model = copy.deepcopy(model)
    compiled = torch.compile(compiled_model, backend='aot_eager')
    for _ in range(2):
        for m in (model, compiled_model):
            m.zero_grad()
        loss_of(model, x).backward()
        loss_of(compiled, x).backward()
        for name, grad in gradients(compiled_model).items():
            torch.testing.assert_close(grad, gradients(model)[name], rtol=1e-4, atol=1e-6)
    for (_, a), (_, b) in zip(
        compensated_layers(model), compensated_layers(compiled_model), strict=True
    ):
        torch.testing.assert_close(a.ags_statistics, b.ags_statistics)


@pytest.mark.parametrize(
    'compensator, shared',
    [
        (None, False),
        ({'eta': 0.1}, False),
        (None, True),
        ({'scale': 0.1}, True),
        ({'eta': 0.1}, True),
        ({'eta': 0.1, 'tied': True}, True),
        ({'eta': 0.1, 'frozen': True}, True),
        ({'eta': 0.1, 'dtype': 'bfloat16'}, True),
    ],
    ids=str,
)
def test_a_model_compiled_for_all_sizes_has_the_gradients_of_the_eager_one(compensator, shared):
    torch._dynamo.reset()
    torch.manual_seed(0)
    layers = [SurgeConv2d(3, 3, 3, padding=1, compensator=compensator) for _ in range(2)]
    model = nn.Sequential(layers[0], nn.PReLU(3), layers[0 if shared else 1])
    compiled = torch.compile(model, backend='aot_eager', dynamic=True, fullgraph=True)
    for size in (8, 9, 11):
        x = torch.randn(2, 3, size, size + 1)
        assert_same_gradients(model, compiled, x)


RESTE_RECU = {'activation': {'type': 'ReSTE'}, 'weight': {'type': 'ReCU'}}
EDE_LIBRA = {'activation': {'type': 'EDE'}, 'weight': {'type': 'Libra'}}
ADABIN = {'weight': {'type': 'AdaBin'}}


@pytest.mark.parametrize(
    'settings, dynamic, shared',
    [(RESTE_RECU, None, False)]
    + [(settings, True, True) for settings in (RESTE_RECU, EDE_LIBRA, ADABIN)],
    ids=str,
)
def test_a_compiled_layer_follows_the_schedules_of_its_binarizers(x, settings, dynamic, shared):
    torch._dynamo.reset()
    layers = [SurgeConv2d(3, 3, 3, **settings) for _ in range(2)]
    model = nn.Sequential(layers[0], layers[0 if shared else 1])
    compiled = torch.compile(model, backend='aot_eager', dynamic=dynamic)
    for progress in (0.0, 0.1, 0.6):
        for layer in model:
            for binarizer in (layer.activation, layer.weight_binarizer):
                if isinstance(binarizer, Scheduled):
                    binarizer.follow(progress)
        assert_same_gradients(model, compiled, x)
