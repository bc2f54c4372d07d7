"""Layers whose weight is computed by a forward pre-hook or a parametrization are kept, with the same outputs."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.deploy import pack


def clamp(module, _):
    module.weight.data.clamp_(-0.5, 0.5)


def clamped(layer):
    layer.register_forward_pre_hook(clamp)
    return layer


@pytest.mark.filterwarnings('ignore:.*weight_norm. is deprecated')
@pytest.mark.parametrize(
    'normalize',
    [spectral_norm, weight_norm, parametrizations.spectral_norm, clamped],
    ids=['spectral_norm', 'weight_norm', 'parametrized', 'hook'],
)
@pytest.mark.parametrize('kind', [SurgeConv2d, SurgeLinear])
def test_a_layer_with_a_computed_weight_is_kept_with_the_same_outputs(kind, normalize):
    torch.manual_seed(0)
    size = (3,) if kind is SurgeConv2d else ()
    model = nn.Sequential(normalize(kind(12, 12, *size)), kind(12, 8, *size))
    x = torch.randn(2, 12, 12, 12)
    model.train()(x)  # spectral_norm updates its vectors
    with torch.no_grad():
        expected = model.eval()(x)
        packed = pack(model)
        assert torch.equal(packed(x), expected)
    assert list(packed.packing.kept) == ['0'] and 'spectral_norm' in packed.packing.kept['0']
