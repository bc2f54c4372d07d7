"""Layers that write nothing but signs, by thresholds of counts, against the signs of their outputs."""

import pytest
import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d
from surge_mm.layers import RPReLU

pytest.importorskip('numba')
from surge_mm.deploy.cpu import thresholds  # noqa: E402  needs Numba

CHANNELS = 40


def packed(activation, pad_value, seed):
    """Return a layer with batch norm and activation, the layer behind it, and an input."""
    torch.manual_seed(seed)
    conv = SurgeConv2d(70, CHANNELS, 3, padding=1, pad_value=pad_value).eval()
    norm = nn.BatchNorm2d(CHANNELS).eval()
    nn.init.normal_(norm.running_mean, std=10)
    nn.init.uniform_(norm.running_var, 10, 200)
    nn.init.normal_(norm.weight)  # both signs, so some outputs fall with the sum
    norm.weight[:3] = 0
    nn.init.normal_(norm.bias)
    layer = PackedConv2d(conv)
    layer.epilogue.fold_norm(norm)
    if activation is not None:
        layer.epilogue.fold_activation(activation)
    return (
        layer,
        PackedConv2d(SurgeConv2d(CHANNELS, 8, 3, padding=1).eval()),
        torch.randn(2, 70, 9, 7),
    )


def rprelu(slope):
    activation = RPReLU(CHANNELS)
    nn.init.constant_(activation.prelu.weight, slope)
    for parameter in (activation.a, activation.c):
        nn.init.normal_(parameter)
    return activation


ACTIVATIONS = {
    'none': lambda: None,
    'Hardtanh': nn.Hardtanh,
    'ReLU': nn.ReLU,
    'RPReLU': lambda: rprelu(0.25),
    'negative slope': lambda: rprelu(-0.5),
}


@torch.no_grad()
@pytest.mark.parametrize('pad_value', [0, 1, -1])
@pytest.mark.parametrize('name', ACTIVATIONS)
def test_signs_are_those_of_the_outputs(name, pad_value, monkeypatch):
    found = []
    monkeypatch.setattr(
        'surge_mm.deploy.cpu.layer.changes_of_sums',
        lambda *steps: found.append(thresholds.changes_of_sums(*steps)) or found[-1],
    )
    for seed in range(3):
        layer, after, x = packed(ACTIVATIONS[name](), pad_value, seed)
        expected = layer.run(x, following=after).signs
        signs = layer.run(x, following=after, values=False).signs
        assert torch.equal(signs.words, expected.words)
        other = x[:, :, 2:, 1:]  # the changes are found once for all sizes
        expected = layer.run(other, following=after).signs
        signs = layer.run(other, following=after, values=False).signs
        assert torch.equal(signs.words, expected.words)
    assert len(found) == 3
    assert all((one is None) == (name == 'negative slope') for one in found)


@torch.no_grad()
def test_a_layer_with_too_many_sums_has_no_thresholds(monkeypatch):
    layer, after, x = packed(None, 0, 0)
    expected = layer.run(x, following=after).signs
    monkeypatch.setattr(thresholds, 'MOST_OUTPUTS', 1000)
    assert torch.equal(layer.run(x, following=after, values=False).signs.words, expected.words)
