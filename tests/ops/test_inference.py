"""Inference of a trained layer: exact sums of signs, scaled afterwards."""

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import SCHEDULED, binary_weight, hard_sign

from surge_mm import SurgeConv2d, SurgeLinear

WEIGHTS = ['Sign', 'ScaledSign', 'XNOR', 'ReAct', 'Libra', 'ReCU', 'AdaBin', 'Real']


def conv(weight, **settings):
    torch.manual_seed(0)
    layer = SurgeConv2d(8, 6, 3, padding=1, groups=2, weight={'type': weight}, **settings)
    for binarizer in (layer.weight_binarizer, layer.activation):
        if type(binarizer).__name__ in SCHEDULED:
            binarizer.follow(1.0)
    with torch.no_grad():
        for learned in (layer.activation_shift, layer.weight_gain):
            if learned is not None:
                learned.normal_()
    return layer.eval()


@pytest.mark.parametrize('weight', WEIGHTS)
@pytest.mark.parametrize('pad_value', [0, 1, -1])
def test_output_without_a_gradient_equals_the_formula_in_float64(weight, pad_value):
    layer = conv(weight, activation={'type': 'RSign'}, pad_value=pad_value)
    x = torch.randn(2, 8, 7, 5)
    with torch.no_grad():
        out = layer(x)
        w = binary_weight(layer.weight.double(), weight, 1.0)
        if layer.weight_gain is not None:
            w = w * layer.weight_gain.double()
        q_x = F.pad(
            hard_sign(x.double() + layer.activation_shift.double()), (1, 1, 1, 1), value=pad_value
        )
        expected = F.conv2d(q_x, w, layer.bias.double(), groups=2)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('weight', WEIGHTS)
def test_output_with_and_without_a_gradient_agrees_up_to_rounding(weight):
    layer = conv(weight)
    x = torch.randn(2, 8, 7, 5)
    with torch.no_grad():
        out = layer(x)
    torch.testing.assert_close(out, layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('weight', WEIGHTS[:-1])
def test_output_without_a_gradient_is_the_same_in_every_memory_format(weight):
    layer = conv(weight, pad_value=1)
    x = torch.randn(2, 8, 7, 5)
    with torch.no_grad():
        out = layer(x)
        layer.to(memory_format=torch.channels_last)
        assert torch.equal(layer(x.to(memory_format=torch.channels_last)), out)


@pytest.mark.parametrize('weight', WEIGHTS)
def test_linear_output_without_a_gradient_equals_the_formula_in_float64(weight):
    torch.manual_seed(0)
    layer = SurgeLinear(20, 6, weight={'type': weight}).eval()
    x = torch.randn(2, 3, 20)
    with torch.no_grad():
        w = binary_weight(layer.weight.double(), weight, 1.0)
        if layer.weight_gain is not None:
            w = w * layer.weight_gain.double()
        expected = F.linear(hard_sign(x.double()), w, layer.bias.double())
        torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)
