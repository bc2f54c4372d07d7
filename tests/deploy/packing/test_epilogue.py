"""Norms and activations that are folded into packed layers."""

import copy

import pytest
import torch
from torch import nn

from surge_mm import RPReLU, SurgeConv2d
from surge_mm.deploy import PackedConv2d, pack
from surge_mm.deploy.cpu import backend


@torch.no_grad()
@pytest.mark.parametrize('channels', [16, 32, 40])
@pytest.mark.parametrize(
    'activation',
    [nn.PReLU, nn.LeakyReLU, nn.Hardtanh, RPReLU, lambda channels: nn.PReLU(1), nn.ReLU, nn.ReLU6],
    ids=['PReLU', 'LeakyReLU', 'Hardtanh', 'RPReLU', 'PReLU of one slope', 'ReLU', 'ReLU6'],
)
@pytest.mark.parametrize('engine_runs', [True, False])
def test_norm_and_activation_are_folded_to_the_bit(channels, activation, engine_runs, monkeypatch):
    conv = SurgeConv2d(64, channels, 3, padding=1, bias=True).eval()
    norm = nn.BatchNorm2d(channels).eval()
    act = (
        nn.PReLU(channels)
        if activation is nn.PReLU
        else (
            activation(channels)
            if activation is RPReLU or not isinstance(activation, type)
            else activation()
        )
    )
    for values in (*norm.parameters(), norm.running_mean, *act.parameters()):
        values.normal_()
    norm.running_var.uniform_(0.1, 3)
    packed = PackedConv2d(conv)
    packed.epilogue.fold_norm(norm)
    packed.epilogue.fold_activation(act)
    if not engine_runs:
        monkeypatch.setattr(backend, 'kernels', lambda: None)
    x, shortcut = torch.randn(2, 64, 9, 8), torch.randn(2, channels, 9, 8)
    assert torch.equal(packed.run(x, shortcut)[0], act(norm(conv(x)) + shortcut))


@torch.no_grad()
@pytest.mark.parametrize('engine_runs', [True, False])
def test_a_folded_relu_keeps_the_sign_of_zero(engine_runs, monkeypatch):
    """The next layer reads -0.0 as -1, and PyTorch's ReLU returns -0.0 for -0.0."""
    conv = SurgeConv2d(2, 2, 1, bias=False).eval()
    conv.weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]).view(2, 2, 1, 1))
    packed = PackedConv2d(conv)
    packed.epilogue.set('m1', torch.tensor(-1.0))
    if not engine_runs:
        monkeypatch.setattr(backend, 'kernels', lambda: None)
    x = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).view(2, 2, 1, 1)
    before = packed(x)
    assert before.flatten().tolist() == [-0.0, -2.0, -0.0, 2.0] and before[0, 0].signbit()
    folded = PackedConv2d(conv)
    folded.epilogue.set('m1', torch.tensor(-1.0))
    folded.epilogue.fold_activation(nn.ReLU())
    out, expected = folded(x), torch.relu(before)
    assert torch.equal(out, expected) and torch.equal(out.signbit(), expected.signbit())


def test_a_folded_relu_adds_no_tensor_to_the_packed_model():
    """Packed files of earlier versions have none, and a file must have exactly the tensors of the model."""
    model = nn.Sequential(SurgeConv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    without = nn.Sequential(SurgeConv2d(8, 8, 3), nn.BatchNorm2d(8))
    assert list(pack(model).state_dict()) == list(pack(without).state_dict())
    assert isinstance(model[2], nn.Identity)


@torch.no_grad()
@pytest.mark.parametrize('gamma', [0.0, -0.0, 2.0, -2.0])
def test_a_shift_of_minus_zero_keeps_its_sign(gamma):
    torch.manual_seed(0)
    net = nn.Sequential(SurgeConv2d(16, 16, 3), nn.BatchNorm2d(16), SurgeConv2d(16, 16, 3)).eval()
    nn.init.constant_(net[1].weight, gamma)
    nn.init.constant_(net[1].bias, -0.0)
    x = torch.randn(1, 16, 9, 9)
    assert torch.equal(pack(copy.deepcopy(net))(x), net(x))
