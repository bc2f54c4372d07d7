"""Norms and activations behind binary layers: which run in PyTorch, and why."""

import copy
from pathlib import Path

import mmcv.cnn
import pytest
import torch
from helpers.trained import channels_last, trained
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torchvision.models.resnet import BasicBlock

import surge_mm
from surge_mm.deploy import pack

CONFIGS = Path(__file__).parents[3] / 'configs'
BCCD = 'bccd/ste_retinanet-1bit_r18-light_40e_bccd.py'
DEMO = 'demo/surge_fcos-1bit_r18-light_10e_digits.py'
GROUP_NORM = {'type': 'FCOSHead', 'norm_cfg': {'_delete_': True, 'type': 'GN', 'num_groups': 16}}


def detector(config, **model):
    cfg = Config.fromfile(CONFIGS / config)
    cfg.merge_from_dict({'model': copy.deepcopy(model)})
    with DefaultScope.overwrite_default_scope('mmdet'):
        return trained(MODELS.build(cfg.model))


def packed_to_the_bit(model):
    """Pack a copy of a detector, and return it after its raw outputs were compared."""
    packed = pack(copy.deepcopy(model))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for before, after in zip(channels_last(model)(x), packed(x), strict=True):
            assert all(torch.equal(*levels) for levels in zip(before, after, strict=True))
    return packed


def test_group_norms_and_the_activations_behind_them_are_listed_as_unfused():
    """Towers of two convolutions each, with GroupNorm and the activation in place of ReLU."""
    packed = packed_to_the_bit(detector(DEMO, bbox_head=GROUP_NORM, shortcuts=False))
    expected = {}
    for tower in ('cls_convs', 'reg_convs'):
        for i in range(2):
            name = f'bbox_head.{tower}.{i}'
            reason = 'GroupNorm has no fixed scale and shift for each channel'
            expected[f'{name}.gn'] = reason
            expected[f'{name}.activate'] = 'GroupNorm comes before it'
    assert packed.packing.unfused == expected
    assert 'in PyTorch: bbox_head.cls_convs.0.gn: GroupNorm has no fixed' in str(packed.packing)


@pytest.mark.parametrize('act_cfg', ['PReLU', None])
def test_towers_with_a_batch_norm_for_each_level_are_packed_completely(act_cfg):
    """The levels share one binary convolution, and each has norm, shortcut and activation of its own."""
    act_cfg = act_cfg and {'type': act_cfg}
    model = detector(BCCD, binary_act_cfg=act_cfg)
    assert model.bbox_head.cls_convs[0][1].conv is model.bbox_head.cls_convs[2][1].conv
    packed = packed_to_the_bit(model)
    assert packed.packing.unfused == {}
    assert len(packed.packing.packed) == 16 + 3 + 2 * 2
    levels = [level[1].conv.epilogue for level in packed.bbox_head.cls_convs]
    assert not torch.equal(levels[0].a2, levels[2].a2)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in packed.bbox_head.modules())


@pytest.mark.parametrize(
    'config',
    [DEMO, *(f'cpu/ste_fcos-cpu-1bit_r18-{size}_40e_bccd.py' for size in 'sml')],
)
def test_the_detectors_of_the_demo_and_for_cpus_are_packed_completely(config):
    packed = packed_to_the_bit(detector(config))
    assert packed.packing.unfused == {} and len(packed.packing.packed) == 16 + 3 + 2 * 2


def sequence(*modules):
    return nn.Sequential(surge_mm.SurgeConv2d(8, 8, 3, padding=1), *modules)


def conv_module(**settings):
    return mmcv.cnn.ConvModule(8, 8, 3, conv_cfg={'type': 'surge_mm.SurgeConv2d'}, **settings)


def block_of_torchvision():
    block = BasicBlock(8, 8)
    surge_mm.binarize(block)
    return block


class NormWithActivation(nn.BatchNorm2d):
    """As BatchNormAct2d of timm."""

    def __init__(self, channels, **settings):
        super().__init__(channels, **settings)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class NamedNorm(nn.BatchNorm2d):
    """A subclass that computes what nn.BatchNorm2d computes."""


class ActivationTwice(nn.Sequential):
    """A sequence that uses the output of its convolution otherwise than nn.Sequential."""

    def forward(self, x):
        out = self[0](x)
        return out + self[2](self[1](out))


class NormTwice(mmcv.cnn.ConvModule):
    def forward(self, x, activate=True, norm=True):
        return self.norm(self.norm(self.conv(x)))


def timm_norm(channels):
    return pytest.importorskip('timm.layers').BatchNormAct2d(channels)


def patched_norm():
    norm = nn.BatchNorm2d(8)
    norm.forward = lambda x: x.abs()
    return norm


CALLS = 'calls it; folded are those in ConvModule and nn.Sequential'
UNFUSED = {
    'folded': (lambda: sequence(nn.BatchNorm2d(8), nn.PReLU(8)), {}),
    'ReLU': (lambda: sequence(nn.BatchNorm2d(8), nn.ReLU(), nn.GELU()), {'3': 'GELU cannot be folded'}),
    'a norm behind the activation': (
        lambda: sequence(nn.PReLU(8), nn.BatchNorm2d(8)),
        {'2': 'another norm or activation is folded before it'},
    ),
    'two norms': (
        lambda: sequence(nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU()),
        {'2': 'another norm or activation is folded before it', '3': 'BatchNorm2d comes before it'},
    ),
    'two activations': (
        lambda: sequence(nn.Hardtanh(), nn.PReLU(8)),
        {'2': 'another norm or activation is folded before it'},
    ),
    'a norm with an activation': (
        lambda: sequence(NormWithActivation(8), nn.PReLU(8)),
        {'1': 'NormWithActivation has a forward of its own', '2': 'NormWithActivation comes before it'},
    ),
    'the same in a ConvModule': (
        lambda: conv_module(norm_cfg={'type': NormWithActivation}),
        {'bn': 'NormWithActivation has a forward of its own', 'activate': 'NormWithActivation comes before it'},
    ),
    'BatchNormAct2d of timm': (
        lambda: sequence(timm_norm(8)), {'1': 'BatchNormAct2d has a forward of its own'},
    ),
    'a norm with a forward set on it': (
        lambda: sequence(patched_norm()), {'1': 'BatchNorm2d has a forward of its own'},
    ),
    'a subclass without a forward': (lambda: sequence(NamedNorm(8), nn.PReLU(8)), {}),
    'a sequence with a forward': (
        lambda: ActivationTwice(*sequence(nn.BatchNorm2d(8), nn.PReLU(8))),
        {name: f'ActivationTwice {CALLS}' for name in '12'},
    ),
    'a ConvModule with a forward': (
        lambda: NormTwice(8, 8, 3, conv_cfg={'type': 'surge_mm.SurgeConv2d'}, norm_cfg={'type': 'BN'}, act_cfg=None),
        {'bn': f'NormTwice {CALLS}'},
    ),
    'pool': (
        lambda: sequence(nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.Hardtanh()),
        {'2': 'MaxPool2d comes before it', '3': 'BatchNorm2d comes before it'},
    ),
    'next layer': (lambda: sequence(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)), {}),
    'activation first': (
        lambda: conv_module(norm_cfg={'type': 'BN'}, order=('act', 'conv', 'norm')),
        {'bn': 'the order is act, conv, norm'},
    ),
    'swish': (
        lambda: conv_module(norm_cfg={'type': 'BN'}, act_cfg={'type': 'Swish'}),
        {'activate': 'Swish cannot be folded'},
    ),
    'a block of the host': (
        block_of_torchvision,
        {name: f'BasicBlock {CALLS}' for name in ('bn1', 'relu', 'bn2')},
    ),
    'a block of ours': (
        lambda: surge_mm.SurgeResNet(18, base_channels=8, act_cfg={'type': 'ReLU'}).layer1,
        {f'{i}.{name}': 'its BasicBlock cannot be packed as a whole' for i in range(2)
         for name in ('bn1', 'act1', 'bn2', 'act2')},
    ),
    'real weights': (
        lambda: nn.Sequential(
            surge_mm.SurgeConv2d(8, 8, 3, weight={'type': 'Real'}), nn.PReLU(),
            surge_mm.SurgeConv2d(8, 8, 3), nn.LayerNorm([8, 5, 5]),
        ),
        {'1': 'the layer is not packed', '3': 'LayerNorm has no fixed scale and shift for each channel'},
    ),
    'linear': (
        lambda: nn.Sequential(surge_mm.SurgeLinear(8, 8), nn.ReLU()),
        {'1': 'nothing is folded into linear layers'},
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', UNFUSED)
def test_what_runs_in_pytorch_behind_binary_layers_has_a_reason(case):
    build, expected = UNFUSED[case]
    model = build()
    with torch.no_grad():
        x = torch.randn(2, 8, 8) if case == 'linear' else torch.randn(2, 8, 9, 9)
        before = channels_last(trained(copy.deepcopy(model)))
    packed = pack(copy.deepcopy(before))
    assert packed.packing.unfused == expected
    with torch.no_grad():
        assert torch.equal(packed(x), before(x))
