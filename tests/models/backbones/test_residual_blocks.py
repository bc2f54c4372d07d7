"""Activations are built with the number of channels that they need; pooled shortcuts match strided convolutions."""

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from surge_mm.layers import RPReLU
from surge_mm.models.backbones.residual_blocks import build_activation
from surge_mm.ops.shortcut import pool_shortcut


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain', 'mmengine'])
@pytest.mark.parametrize(
    'kind, expected',
    [
        ('RPReLU', RPReLU),
        ('surge_mm.RPReLU', RPReLU),
        (RPReLU, RPReLU),
        ('PReLU', nn.PReLU),
        ('Hardtanh', nn.Hardtanh),
        ('LeakyReLU', nn.LeakyReLU),
    ],
)
def test_activations_are_found_in_every_scope_and_have_parameters_per_channel(
    scope, kind, expected
):
    with DefaultScope.overwrite_default_scope(scope):
        activation = build_activation({'type': kind}, 6)
    assert type(activation) is expected
    assert all(p.numel() == 6 for p in activation.parameters())
    assert activation(torch.randn(2, 6, 3, 3)).shape == (2, 6, 3, 3)


def test_an_explicit_number_of_parameters_is_kept():
    cfg = {'type': 'PReLU', 'num_parameters': 1}
    assert build_activation(cfg, 6).weight.numel() == 1
    assert cfg == {'type': 'PReLU', 'num_parameters': 1}


@pytest.mark.parametrize('size', [8, 7])
@pytest.mark.parametrize('stride', [1, 2])
def test_a_pooled_shortcut_has_the_size_of_the_convolution(size, stride):
    x = torch.randn(1, 4, size, size)
    conv = nn.Conv2d(4, 4, 3, stride=stride, padding=1)
    assert pool_shortcut(x, stride).shape == conv(x).shape


def test_pooling_averages_the_pixels_inside_the_image():
    x = torch.tensor([[[[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]]]])
    assert pool_shortcut(x, 2).tolist() == [[[[2.5, 6.0]]]]
