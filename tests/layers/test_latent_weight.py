"""What other code does to the weight of a layer: normalization, fusion, assignment."""

import copy

import mmcv.cnn
import pytest
import torch
from torch import nn
from torch.nn.utils import fusion, remove_spectral_norm, spectral_norm

from surge_mm.layers import SurgeConv2d, SurgeLinear


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8)


def test_a_normalized_weight_is_removed_before_the_layer_becomes_real(x):
    layer = spectral_norm(SurgeConv2d(3, 8, 3))
    with pytest.raises(RuntimeError, match='remove_spectral_norm'):
        layer.to_float()
    assert type(remove_spectral_norm(layer).to_float()) is nn.Conv2d


def fused_by_mmcv(convolution, norm):
    return mmcv.cnn.fuse_conv_bn(nn.Sequential(convolution, norm))


@torch.no_grad()
@pytest.mark.parametrize(
    'fuse, layer',
    [
        (fused_by_mmcv, lambda **kw: SurgeConv2d(3, 8, 3, **kw)),
        (fused_by_mmcv, lambda **kw: SurgeConv2d(3, 8, 3, bias=False, **kw)),
        (fusion.fuse_conv_bn_eval, lambda **kw: SurgeConv2d(3, 8, 3, bias=False, **kw)),
        (fusion.fuse_linear_bn_eval, lambda **kw: SurgeLinear(8, 8, **kw)),
    ],
    ids=['mmcv', 'mmcv without bias', 'PyTorch', 'PyTorch, linear'],
)
@pytest.mark.parametrize(
    'weight', ['Sign', 'ScaledSign', 'XNOR', 'ReAct', 'Libra', 'ReCU', 'AdaBin']
)
def test_a_fused_batch_norm_gives_the_same_output_or_an_error(fuse, layer, weight, x):
    torch.manual_seed(0)
    layer = layer(weight={'type': weight}).eval()
    linear = isinstance(layer, SurgeLinear)
    norm = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(8).eval()
    for values in (norm.weight, norm.bias, norm.running_mean):
        nn.init.uniform_(values, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    x = x[0, 0] if linear else x
    expected, before = norm(layer(x)), copy.deepcopy(layer)
    if weight in ('Sign', 'Libra', 'ReCU'):
        with pytest.raises(
            RuntimeError, match='Do not fuse: surge_mm.deploy.pack folds batch norms'
        ):
            fuse(layer, norm)
        assert torch.equal(layer(x), before(x))
    else:
        torch.testing.assert_close(fuse(layer, norm)(x), expected)


def test_weights_of_any_values_are_assigned(x):
    for weight in ('Sign', 'ScaledSign'):
        layer = SurgeConv2d(3, 8, 3, weight={'type': weight})
        other = SurgeConv2d(3, 8, 3, weight={'type': weight})
        layer.load_state_dict(other.state_dict(), assign=True)
        assert torch.equal(layer(x), other(x))
        layer.weight = nn.Parameter(0.1 * other.weight.detach())
        assert torch.equal(layer.weight, 0.1 * other.weight)
    single = SurgeConv2d(3, 3, 1, groups=3, weight={'type': 'Sign'})  # each weight is a multiple
    single.weight, single.bias = nn.Parameter(torch.randn(3, 1, 1, 1)), nn.Parameter(torch.ones(3))


@pytest.mark.parametrize('weight', ['Sign', 'ScaledSign', 'ReCU', 'Libra'])
def test_a_layer_that_starts_with_zeros_becomes_binary_and_a_norm_with_zeros_is_not_fused(weight):
    conv, norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8).eval()
    nn.init.zeros_(conv.weight), nn.init.zeros_(norm.weight)
    layer = SurgeConv2d.from_float(conv, weight={'type': weight})
    assert layer.weight is conv.weight and layer.bias is conv.bias
    if weight == 'Sign':  # a residual block starts with such a norm
        layer = SurgeConv2d(3, 8, 3, weight={'type': weight}).eval()
        with pytest.raises(RuntimeError, match='Do not fuse'):
            fuse_conv_bn_weights_of(layer, norm)


def fuse_conv_bn_weights_of(layer, norm):
    layer.weight, layer.bias = nn.utils.fusion.fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
