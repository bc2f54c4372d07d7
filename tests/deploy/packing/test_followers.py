"""Norms, activations and max pools that follow a real-valued convolution, found in a model by their names."""

import pytest
import torch
from helpers.trained import trained
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from torch import nn

import surge_mm
from surge_mm.deploy import pack
from surge_mm.deploy.packing.followers import find_followers


def found_in(model):
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return find_followers(model, layers)


def conv_module(**settings):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return ConvModule(4, 4, 1, norm_cfg={'type': 'BN'}, **settings)


def conv():
    return nn.Conv2d(4, 4, 1)


SHARED = conv()
CASES = {
    'sequence': (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.PReLU(), conv(), nn.ReLU(), conv()),
        {'0': ['1', '2'], '3': ['4'], '5': []},
    ),
    'pool': (
        lambda: nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2), conv(), nn.MaxPool2d(2)),
        {'0': ['1', '2'], '3': ['4']},
    ),
    'pool that cannot be folded, and one too many': (
        lambda: nn.Sequential(
            *(conv(), nn.MaxPool2d(2, ceil_mode=True)),
            *(conv(), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.ReLU()),
        ),
        {'0': [], '2': ['3']},
    ),
    'another norm': (
        lambda: nn.Sequential(conv(), nn.GroupNorm(2, 4), nn.ReLU()),
        {'0': []},
    ),
    'another activation': (
        lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.SiLU()),
        {'0': ['1']},
    ),
    'activation first': (
        lambda: nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4)),
        {'0': ['1']},
    ),
    'shared': (
        lambda: nn.Sequential(SHARED, nn.BatchNorm2d(4), SHARED, nn.ReLU()),
        {'0': []},
    ),
    'a forward of its own': (lambda: type('Own', (nn.ModuleList,), {})([conv(), nn.ReLU()]), {'0': []}),
    'ConvModule': (conv_module, {'conv': ['bn', 'activate']}),
    'ConvModule without norm': (
        lambda: ConvModule(4, 4, 1, act_cfg=None),
        {'conv': []},
    ),
    'ConvModule in another order': (
        lambda: conv_module(order=('norm', 'conv', 'act')),
        {'conv': ['activate']},
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_followers_are_the_norm_and_the_activation_right_behind(name):
    build, expected = CASES[name]
    assert found_in(build().eval()) == expected


@torch.no_grad()
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('stem', ['resnet', 'light'])
def test_all_norms_behind_real_convolutions_of_a_resnet_are_folded(depth, stem):
    torch.manual_seed(0)
    backbone = surge_mm.SurgeResNet(
        depth, base_channels=8, num_stages=2, out_indices=(1,), stem=stem
    )
    images = [torch.randn(1, 3, 32, 32) for _ in range(2)]
    packed = pack(trained(backbone), 'int8', images)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in packed.modules())
    activations = [name for name, m in packed.named_modules() if isinstance(m, nn.PReLU)]
    # that of a bottleneck comes after its shortcut
    assert all(name.endswith('act3') for name in activations) and bool(activations) == (depth == 50)
    assert packed(images[0])[0].isfinite().all()
