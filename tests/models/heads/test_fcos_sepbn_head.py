"""FCOS head with norms of its own for each level, against the hosts' heads."""

import copy
import math

import pytest
import torch
from mmdet.models.dense_heads import FCOSHead, RetinaSepBNHead
from mmengine.registry import DefaultScope
from torch import nn

from surge_mm import FCOSSepBNHead, binarize
from surge_mm.deploy import pack
from surge_mm.models.binarization.layer_reports import layer_reports

SETTINGS = {
    'num_classes': 3,
    'in_channels': 16,
    'feat_channels': 16,
    'stacked_convs': 2,
    'strides': [8, 16, 32],
    'regress_ranges': ((-1, 32), (32, 64), (64, 1e8)),
}
TOWERS = ('cls_convs', 'reg_convs')


@pytest.fixture(autouse=True)
def scope():
    """Set the scope of a detection config; other tests may have left another."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def features():
    torch.manual_seed(1)
    return tuple(torch.randn(2, 16, size, size) for size in (12, 6, 3))


def host(**settings):
    torch.manual_seed(0)
    head = FCOSHead(**SETTINGS, norm_cfg={'type': 'BN'}, **settings)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
    return head


def like(head, **settings):
    """Return our head with the weights of the host's, and its norms for each level."""
    ours = FCOSSepBNHead(**SETTINGS, **settings)
    weights = head.state_dict()
    own = {}
    for key in ours.state_dict():
        parts = key.split('.')
        if parts[0] in TOWERS:
            del parts[1]
        own[key] = weights['.'.join(parts)]
    ours.load_state_dict(own)
    return ours


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize(
    'settings',
    [{}, {'norm_on_bbox': True, 'centerness_on_reg': True}, {'conv_bias': True}],
    ids=str,
)
def test_with_equal_norms_it_predicts_what_the_head_of_the_host_does(settings, training):
    head = host(**settings)
    ours = like(head, **settings).train(training)
    for found, expected in zip(ours(features()), head.train(training)(features()), strict=True):
        assert len(found) == 3
        assert all(map(torch.equal, found, expected))


def test_the_norms_of_a_level_follow_the_features_of_this_level():
    ours = like(host()).train()
    ours(features())
    for level, x in enumerate(features()):
        alone = host().train()
        alone((x,))
        for tower in TOWERS:
            for found, expected in zip(
                ours.get_submodule(tower)[level], getattr(alone, tower), strict=True
            ):
                assert torch.equal(found.bn.running_mean, expected.bn.running_mean)
                assert torch.equal(found.bn.running_var, expected.bn.running_var)


def test_parameters_have_the_names_of_the_other_heads_of_this_kind():
    sepbn = RetinaSepBNHead(3, 3, 16, stacked_convs=2, feat_channels=16, norm_cfg={'type': 'BN'})
    names = [
        [name for name in head.state_dict() if name.startswith(TOWERS)]
        for head in (FCOSSepBNHead(**SETTINGS), sepbn)
    ]
    assert sorted(names[0]) == sorted(names[1]) and len(names[0]) == 2 * 3 * 2 * (1 + 5)
    trained = [name for name, _ in FCOSSepBNHead(**SETTINGS).named_parameters()]
    assert len([name for name in trained if name.startswith(TOWERS)]) == 2 * 2 * (1 + 3 * 2)


def test_weights_start_as_those_of_the_host():
    head = FCOSSepBNHead(80, 64, feat_channels=64)
    head.init_weights()
    convs = [m for tower in TOWERS for m in head.get_submodule(tower).modules()]
    weights = [m.weight for m in convs if isinstance(m, nn.Conv2d)]
    for weight in (*weights, head.conv_reg.weight):
        weight = weight.detach()
        assert float(weight.mean()) == pytest.approx(0, abs=1e-3)
        assert float(weight.std()) == pytest.approx(0.01, rel=0.05)
    bias = head.conv_cls.bias
    assert torch.allclose(bias, torch.full_like(bias, -math.log(99)))
    assert all(m.weight.eq(1).all() for m in convs if isinstance(m, nn.BatchNorm2d))


@torch.no_grad()
def test_a_narrow_head_predicts_distances_and_centerness_by_one_convolution():
    narrow = {'narrow': True, 'norm_on_bbox': True, 'centerness_on_reg': True}
    ours = FCOSSepBNHead(**SETTINGS, **narrow).eval()
    plain = FCOSSepBNHead(**SETTINGS, norm_on_bbox=True, centerness_on_reg=True).eval()
    weights = ours.state_dict()
    for part, filters in (('reg', slice(4)), ('centerness', slice(4, 5)), ('cls', slice(None))):
        source = 'conv_cls' if part == 'cls' else 'conv_reg'
        center = torch.zeros_like(plain.state_dict()[f'conv_{part}.weight'])
        center[:, :, 1, 1] = weights[f'{source}.weight'][filters, :, 0, 0]
        bias = weights[f'{source}.bias'][filters]
        plain.load_state_dict({f'conv_{part}.weight': center, f'conv_{part}.bias': bias}, False)
    others = {name: t for name, t in weights.items() if not name.startswith('conv_')}
    plain.load_state_dict(others, strict=False)
    for found, expected in zip(ours(features()), plain(features()), strict=True):
        for own, reference in zip(found, expected, strict=True):
            torch.testing.assert_close(own, reference)
    with pytest.raises(ValueError, match='set centerness_on_reg=True'):
        FCOSSepBNHead(**SETTINGS, narrow=True)


def test_other_norms_and_deformable_convolutions_of_the_host_are_built():
    group = {'type': 'GN', 'num_groups': 2}
    assert isinstance(FCOSSepBNHead(**SETTINGS, norm_cfg=group).cls_convs[2][1].gn, nn.GroupNorm)
    head = FCOSSepBNHead(**SETTINGS, norm_cfg=None, dcn_on_last_conv=True)
    names = [type(module.conv).__name__ for module in head.reg_convs[1]]
    assert names == ['Conv2d', 'ModulatedDeformConv2dPack']
    assert head.cls_convs[0][0].conv.bias is not None


@torch.no_grad()
def test_a_packed_head_is_equal_to_the_bit_and_nothing_is_left_to_pytorch():
    head = like(host())
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):  # differ between levels
            nn.init.normal_(module.running_mean)
    binarize(head, [{'name': 'conv_*', 'to': 'keep'}], shortcuts=True)
    reports = [report for report in layer_reports(head) if report.binary]
    assert [(len(report.places), report.shortcut) for report in reports] == [(3, True)] * 4
    head.eval().to(memory_format=torch.channels_last)
    packed = pack(copy.deepcopy(head))
    assert packed.packing.unfused == {} and len(packed.packing.packed) == 4
    for found, expected in zip(packed(features()), head(features()), strict=True):
        assert all(map(torch.equal, found, expected))
