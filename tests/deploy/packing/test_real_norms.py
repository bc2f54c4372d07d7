"""Batch norms of packed models, with the activation and the max pool behind them, against PyTorch's passes."""

import copy
import pickle

import pytest
import torch
from helpers.trained import trained
from mmcv.cnn import ConvModule
from torch import nn

import surge_mm
from surge_mm.deploy import pack
from surge_mm.deploy.cpu import passes
from surge_mm.deploy.packing import real_norms
from surge_mm.deploy.packing.real_norms import NormPass, fuse_norms, pass_through, split_norms
from surge_mm.deploy.real_layers.convert import restore_real
from surge_mm.layers import RPReLU

ACTIVATIONS = {
    'none': lambda channels: None,
    'PReLU': nn.PReLU,
    'one slope': lambda channels: nn.PReLU(),
    'LeakyReLU': lambda channels: nn.LeakyReLU(0.1),
    'ReLU': lambda channels: nn.ReLU(),
    'ReLU6': lambda channels: nn.ReLU6(),
    'Hardtanh': lambda channels: nn.Hardtanh(),
    'RPReLU': RPReLU,
}
POOLS = {'no pool': None, '3x3': nn.MaxPool2d(3, 2, 1), '1x2': nn.MaxPool2d((1, 2), (3, 1))}


def sequence(channels, activation='PReLU', pool='3x3'):
    pool = copy.deepcopy(POOLS[pool])
    modules = [nn.BatchNorm2d(channels), ACTIVATIONS[activation](channels), pool]
    return trained(nn.Sequential(*[m for m in modules if m is not None])).eval()


def samples(channels, size=(13, 10)):
    x = 2 * torch.randn(3, channels, *size)
    for i, value in enumerate((-0.0, 0.0, float('inf'), float('-inf'), float('nan'))):
        x[0, :, 3 + i, 4] = value
    return x.contiguous(memory_format=torch.channels_last)


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    numbers = ~one.isnan()
    assert torch.equal(one.signbit() & numbers, other.signbit() & numbers)
    assert one.stride() == other.stride()


@torch.no_grad()
@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('pool', POOLS)
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_one_pass_equals_those_of_pytorch_to_the_bit(activation, pool, threads, monkeypatch):
    for channels in (32, 21, 3):
        model, x = sequence(channels, activation, pool), samples(channels)
        expected = model(x)
        contiguous = model(x.contiguous())
        fuse_norms(model)
        assert_same(model(x.contiguous()), contiguous)
        with monkeypatch.context() as patch:
            patch.setattr(passes, 'WORTH_THREADS', 0)
            patch.setattr(torch, 'get_num_threads', lambda: threads)
            patch.setattr(NormPass, '_plain', None)
            assert_same(model(x), expected)
        with monkeypatch.context() as patch:
            patch.setattr(real_norms, 'can_run', lambda x: False)
            assert_same(model(x), expected)


@torch.no_grad()
def test_a_norm_without_weights_and_inputs_of_other_shapes_are_as_before():
    model = nn.Sequential(nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.MaxPool2d(3)).eval()
    inputs = [samples(8), torch.randn(0, 8, 9, 9)]
    expected = [model(x) for x in inputs]
    fuse_norms(model)
    for x, out in zip(inputs, expected, strict=True):
        assert_same(model(x), out)
    for shape in (
        (1, 7, 9, 9),
        (1, 8, 9),
        (1, 8, 2, 9),
    ):  # channels, dimensions, too small for the pool
        with pytest.raises((RuntimeError, ValueError)):
            model(torch.randn(shape).to(memory_format=torch.preserve_format))


@torch.no_grad()
@pytest.mark.parametrize(
    'change',
    [
        lambda model, state: model.load_state_dict(state),
        lambda model, state: model.load_state_dict(state, assign=True),
        lambda model, state: model[1].weight.add_(1),
        lambda model, state: model.bfloat16().float(),
        lambda model, state: model[1].bfloat16().float(),
    ],
    ids=['state', 'assigned state', 'in place', 'rounded', 'rounded activation'],
)
def test_a_changed_tensor_changes_the_output(change):
    model, state, x = sequence(16), sequence(16).state_dict(), samples(16)
    model[1].weight.fill_(0.3)  # rounded in bfloat16, as 0.25 would not be
    fuse_norms(model)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    before = model(x)
    change(model, copy.deepcopy(state))
    after = model(x)
    assert not torch.equal(before.nan_to_num(), after.nan_to_num())
    for one in copies:
        assert_same(one(x), before)
    split_norms(model)
    assert_same(model(x), after)


def test_gradients_of_a_norm_are_as_before():
    model = sequence(8)
    fuse_norms(model)
    model(torch.randn(2, 8, 9, 9)).sum().backward()
    assert model[0].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_a_model_in_inference_mode_gives_the_same():
    with torch.inference_mode():
        model, x = sequence(8), samples(8)
        expected = model(x)
        fuse_norms(model)
        for _ in range(2):
            assert_same(model(x), expected)


@torch.no_grad()
@pytest.mark.parametrize('settings', [{'depth': 18}, {'depth': 18, 'stem': 'light'}, {'depth': 50}])
def test_each_norm_of_a_packed_backbone_is_one_pass(settings, monkeypatch):
    model = trained(surge_mm.SurgeResNet(base_channels=16, **settings))
    x = torch.randn(2, 3, 50, 70).contiguous(memory_format=torch.channels_last)
    keys = [key for key in model.state_dict() if 'bn1' in key and 'layer' not in key]
    packed = pack(model)
    assert [key for key in packed.state_dict() if 'bn1' in key and 'layer' not in key] == keys
    one_pass = packed(x)
    with monkeypatch.context() as patch:
        patch.setattr(NormPass, '_plain', None)
        for name in ('relu', 'prelu', 'max_pool2d', 'batch_norm'):
            if settings['depth'] == 18:
                patch.setattr(nn.functional, name, None)
        assert all(torch.equal(*pair) for pair in zip(packed(x), one_pass, strict=True))
    split_norms(packed)
    assert all(torch.equal(*pair) for pair in zip(packed(x), one_pass, strict=True))


@torch.no_grad()
def test_int8_layers_of_an_earlier_file_leave_the_pool_to_the_model():
    packed = pack(
        trained(surge_mm.SurgeResNet(18, base_channels=16, num_stages=1, out_indices=(0,)))
    )
    x = torch.randn(1, 3, 32, 32)
    restore_real(packed, {'dtype': 'int8', 'layers': {'conv1': ['bn1', 'act1']}})
    assert isinstance(packed.bn1, nn.Identity) and packed(x)[0].shape[-2:] == (8, 8)
    restore_real(packed, {'dtype': 'int8', 'layers': {'conv1': ['bn1', 'act1']}})
    assert packed(x)[0].shape[-2:] == (8, 8)


@torch.no_grad()
def test_modules_that_are_used_or_called_otherwise_stay():
    shared = nn.ReLU()
    model = nn.Sequential(nn.BatchNorm2d(4), shared, nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), shared)
    by_norm = ConvModule(4, 4, 1, norm_cfg={'type': 'BN'})
    by_convolution = ConvModule(4, 4, 1, norm_cfg={'type': 'BN'})
    by_convolution.turn_on_efficient_conv_bn_eval()
    model = trained(nn.ModuleList([model, by_norm, by_convolution])).eval()
    x = samples(4)
    expected = [module(x) for module in model]
    fuse_norms(model)
    folded = [
        m.__dict__.get('forward') is pass_through
        for m in (shared, by_norm.activate, by_convolution.activate)
    ]
    assert folded == [False, True, False]
    for module, out in zip(model, expected, strict=True):
        assert_same(module(x), out)


@torch.no_grad()
def test_a_conv_module_with_nothing_behind_its_convolution_calls_it_alone(monkeypatch):
    def module(norm):
        return ConvModule(16, 16, 3, padding=1, norm_cfg=norm, act_cfg={'type': 'PReLU'})

    model = nn.Sequential(module({'type': 'BN'}), module({'type': 'GN', 'num_groups': 4}))
    surge_mm.binarize(model, shortcuts=True)
    model = trained(model).eval()
    x = torch.randn(1, 16, 9, 8).contiguous(memory_format=torch.channels_last)
    expected = model(x)
    packed = pack(model)
    copies = [copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))]
    for one in [packed, *copies]:
        assert torch.equal(one(x), expected)
        monkeypatch.setitem(one[0]._modules, 'conv', nn.Identity())
        assert torch.equal(one[0](x), x)
    assert 'forward' not in packed[1].__dict__  # GroupNorm
    split_norms(packed)
    monkeypatch.undo()
    assert torch.equal(packed(x), expected)
    # nothing but the call of the convolution
    fuse_norms(packed)
    monkeypatch.setattr(type(packed[0]), 'forward', None)
    assert packed[0](x).shape == x.shape
