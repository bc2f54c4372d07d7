"""Captured networks with inputs that are changed in place, or whose elements share memory."""

import pytest
import torch
from torch import nn

import surge_mm
from surge_mm.deploy import CapturedNetwork, pack


class Standardize(nn.Module):
    """Pre-processing that writes into its input."""

    def forward(self, x):
        return x.sub_(0.5).div_(2.0)


def packed(first):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(first, nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU()),
        *(surge_mm.SurgeConv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Conv2d(16, 8, 1),
    )
    return pack(model.eval())


@torch.inference_mode()
@pytest.mark.parametrize('first', [Standardize, lambda: nn.LeakyReLU(0.1, inplace=True)])
def test_a_network_that_changes_its_input_in_place_has_the_outputs_of_its_modules(first):
    model = packed(first())
    network = CapturedNetwork(model)
    for _ in range(4):
        x = torch.randn(1, 3, 20, 24)
        assert torch.equal(network(x.clone()), model(x.clone()))


@torch.inference_mode()
@pytest.mark.parametrize('shape', [(1, 1, 20, 24), (1, 3, 20, 24), (1, 3, 1, 1)])
def test_an_expanded_image_has_the_outputs_of_the_modules(shape):
    model = packed(nn.Identity())
    network = CapturedNetwork(model)
    for _ in range(4):
        x = torch.randn(shape).expand(4, 3, 20, 24)
        assert torch.equal(network(x), model(x))
