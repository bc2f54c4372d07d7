"""Ranges of inputs, measured on images."""

import pytest
import torch
from torch import nn

from surge_mm.deploy.real_layers.calibration import measure_ranges


def ranges_of(model, batches):
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return measure_ranges(model, layers, batches)


def test_ranges_cover_the_inputs_of_all_images_and_all_calls():
    conv = nn.Conv2d(4, 4, 1)

    class Twice(nn.Sequential):
        def forward(self, x):
            return self[1](x), self[1](-x)

    model = Twice(nn.Conv2d(4, 4, 1), conv)
    images = [torch.linspace(0, high, 4 * 50).reshape(1, 4, 10, 5) for high in (1.0, 3.0, 2.0)]
    found = ranges_of(model, images)
    assert found['0'] is None  # not called
    assert found['1'].low == pytest.approx(-3, rel=0.03)
    assert found['1'].high == pytest.approx(3, rel=0.03)
    assert not conv._forward_pre_hooks


def test_the_batches_of_a_loader_are_for_test_step():
    class Host(nn.Sequential):
        def test_step(self, data):
            return self(data['inputs'])

    model = Host(nn.Conv2d(1, 1, 1))
    found = ranges_of(model, [{'inputs': torch.full((1, 1, 2, 2), 0.5)}])
    assert found['0'].low == 0 and found['0'].high == pytest.approx(0.5)


def test_an_input_that_is_not_finite_gives_no_range():
    image = torch.ones(1, 1, 2, 2)
    image[..., 0] = float('nan')
    assert ranges_of(nn.Sequential(nn.Conv2d(1, 1, 1)), [image])['0'] is None
