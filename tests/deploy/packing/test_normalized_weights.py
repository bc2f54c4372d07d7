"""Layers whose weight is computed by a forward pre-hook or a parametrization: packed as the next pass computes it."""

import copy
import functools

import mmcv.cnn
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.deploy import pack


def standardized(module, inputs):
    v = module.latent
    module.weight = (v - v.mean()) / v.std() * inputs[0].new_ones(())


class Standardization:
    def __call__(self, module, inputs, kwargs):
        standardized(module, inputs)


def with_hook(layer, hook, **options):
    """Let a hook of the user's own compute the weight of a layer from another parameter."""
    latent, start = layer.weight, layer.weight.detach().clone()
    del layer.weight
    layer.latent, layer.weight = latent, start
    layer.register_forward_pre_hook(hook, **options)
    return layer


NORMALIZED = {
    'lambda': lambda: with_hook(SurgeConv2d(16, 8, 3), lambda *args: standardized(*args)),
    'partial': lambda: with_hook(
        SurgeConv2d(16, 8, 3, 2, 7, 3, padding_mode='reflect'), functools.partial(standardized)
    ),
    'object': lambda: with_hook(
        SurgeConv2d(16, 8, 4, padding='same'), Standardization(), with_kwargs=True
    ),
    'hook of a linear layer': lambda: with_hook(SurgeLinear(12, 8), standardized),
    'spectral_norm': lambda: spectral_norm(SurgeConv2d(16, 8, 3)),
    'weight_norm': lambda: weight_norm(SurgeConv2d(16, 8, 3)),
    'spectral_norm of a linear layer': lambda: spectral_norm(SurgeLinear(12, 8)),
    'parametrized spectral_norm': lambda: parametrizations.spectral_norm(SurgeConv2d(16, 8, 3)),
    'parametrized weight_norm': lambda: parametrizations.weight_norm(SurgeConv2d(16, 8, 3)),
    'ConvModule': lambda: mmcv.cnn.ConvModule(
        16, 8, 3, conv_cfg={'type': 'surge_mm.SurgeConv2d'}, with_spectral_norm=True
    ),
}


@pytest.mark.filterwarnings('ignore:.*weight_norm. is deprecated')
@pytest.mark.parametrize('build', NORMALIZED.values(), ids=NORMALIZED)
def test_a_normalized_weight_is_packed_as_the_next_pass_computes_it(build):
    torch.manual_seed(0)
    trained, loaded = build(), build()
    for parameter in trained.parameters():
        nn.init.uniform_(parameter, -3, 3)
    x = torch.randn(2, 16, 12, 12)
    trained.train()(x)  # spectral_norm updates its vectors
    loaded.load_state_dict(trained.state_dict())
    with torch.no_grad():
        expected = trained.eval()(x)
        assert torch.equal(pack(loaded)(x), expected)


@torch.no_grad()
def test_a_parameter_that_a_hook_changes_is_packed_as_the_next_pass_changes_it():
    def clamp(module, inputs):
        module.weight.data.clamp_(-0.5, 0.5)

    layer = SurgeConv2d(16, 8, 3).eval()
    nn.init.uniform_(layer.weight, -3, 3)
    layer.register_forward_pre_hook(clamp)
    x = torch.randn(2, 16, 12, 12)
    expected = copy.deepcopy(layer)(x)
    assert torch.equal(pack(layer)(x), expected)
