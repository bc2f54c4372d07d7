"""What other code does to the weight of a layer: normalization, fusion, pruning, assignment."""

import copy

import mmcv.cnn
import pytest
import torch
from torch import nn
from torch.nn.utils import fusion, prune, remove_spectral_norm, spectral_norm

from surge_mm.deploy import pack
from surge_mm.layers import SurgeConv2d, SurgeLinear


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8)


def test_auxiliary_weights_start_as_a_copy_of_the_normalized_weight(x):
    torch.manual_seed(0)
    source, layer = (spectral_norm(SurgeConv2d(3, 8, 3)) for _ in range(2))
    state = {key: value for key, value in source.state_dict().items() if key != 'aux_weight'}
    layer.load_state_dict(state)
    source.eval()(x)
    assert torch.equal(layer.aux_weight, source.weight)


def test_auxiliary_weights_start_as_a_copy_of_the_weight_that_a_hook_computes(x):
    source, layer = SurgeConv2d(3, 8, 3), SurgeConv2d(3, 8, 3)
    for one in (source, layer):
        latent, start = one.weight, one.weight.detach().clone()
        del one.weight
        one.latent, one.weight = latent, start
        one.register_forward_pre_hook(lambda module, _: setattr(module, 'weight', module.latent**3))
    layer.load_state_dict({key: v for key, v in source.state_dict().items() if key != 'aux_weight'})
    layer.train()
    assert torch.equal(layer.aux_weight, source.latent**3)


@torch.no_grad()
def test_a_hook_that_fails_on_zeros_leaves_the_weight_and_is_warned_of(x, monkeypatch):
    def needs_batch(module, inputs):
        assert len(inputs[0]) == 4, 'needs a batch of 4'

    layer = SurgeConv2d(3, 8, 3)
    layer.register_forward_pre_hook(needs_batch)
    said = []
    monkeypatch.setattr('surge_mm.layers.latent_weight.warn', said.append)
    expected = layer.eval()(x)
    assert torch.equal(pack(layer)(x), expected)
    assert 'AssertionError: needs a batch of 4' in said[0]


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


def test_binary_weights_are_not_pruned():
    with pytest.raises(RuntimeError, match='the sign of 0 is'):
        prune.l1_unstructured(SurgeConv2d(3, 8, 3), 'weight', 0.5)
    pruned = prune.l1_unstructured(SurgeConv2d(3, 8, 3, weight={'type': 'Real'}), 'weight', 0.5)
    assert (pruned.weight == 0).sum() == 3 * 8 * 9 // 2
