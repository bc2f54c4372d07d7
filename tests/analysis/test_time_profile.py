"""The parts of the time of one image, on a clock that modules advance by known steps."""

import pytest
import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.analysis.time_profile import (
    BINARY,
    DECODING,
    NORM,
    OTHER,
    REAL,
    REST,
    STEM,
    Region,
    profile_time,
    regions_of,
)


class Clock:
    """A clock that ``works`` alone advances."""

    now = 0.0

    def __call__(self):
        return self.now

    def works(self, module, seconds):
        """Let the forward pass of a module take this long."""
        inner = module.forward

        def forward(*args):
            self.now += seconds
            return inner(*args) if args else None

        object.__setattr__(module, 'forward', forward)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.predictor = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.predictor(x)

    def predict_by_feat(self, clock):
        clock.now += 64


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.PReLU(), SurgeConv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Identity()
        )
        self.head = Head()


@pytest.fixture
def net():
    return Net().eval()


def test_each_moment_is_charged_to_the_innermost_region_and_the_parts_add_up(net):
    clock = Clock()
    seconds = {'backbone': 1, 'backbone.0': 2, 'backbone.1': 4, 'backbone.2': 8, 'backbone.3': 16}
    seconds['head.predictor'] = 32
    for name, value in seconds.items():
        clock.works(net.get_submodule(name), value)
    before = {name: dict(vars(module)) for name, module in net.named_modules()}

    def image():
        net.head(net.backbone(torch.zeros(1, 3, 8, 8)))
        net.head.predict_by_feat(clock)
        clock.now += 128

    found = profile_time(image, regions_of(net), rounds=2, warmup=1, clock=clock)
    assert found.seconds == {
        (STEM, 'backbone'): 1,
        (STEM, 'backbone.0'): 2,
        (STEM, 'backbone.1'): 4,
        (BINARY, 'backbone.2'): 8,
        (NORM, 'backbone.3'): 16,
        (REAL, 'head.predictor'): 32,
        (DECODING, ''): 64,
        (REST, ''): 128,
        (OTHER, 'backbone'): 0,
        (OTHER, 'head'): 0,
    }
    assert found.total == found.without_timers == 255
    assert found.part(STEM) == {'backbone.1': 4, 'backbone.0': 2, 'backbone': 1}
    # nothing of the measurement is left
    assert {name: dict(vars(module)) for name, module in net.named_modules()} == before


def test_an_error_leaves_no_timer(net):
    def image():
        raise ValueError('too small')

    with pytest.raises(ValueError, match='too small'):
        profile_time(image, [Region(net.head, 'forward', OTHER)], 1, 0)
    assert 'forward' not in vars(net.head)


def test_without_binary_layers_there_is_no_stem_and_names_can_count_as_binary():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    parts = {region.part for region in regions_of(net) if region.name}
    assert parts == {REAL}
    assert [region.part for region in regions_of(net, {'1'}) if region.name] == [REAL, BINARY]
