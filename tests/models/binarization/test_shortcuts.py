"""Shortcuts that binarization adds round convolutions of a host's modules."""

import copy

import mmcv.cnn
import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS as DETECTORS
from mmengine.registry import DefaultScope
from torch import nn

from surge_mm import binarize, to_float
from surge_mm.deploy import pack
from surge_mm.deploy.packing.packed_layers import PackedShortcutConv2d
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.utils.errors import UsageError


def conv_module(channels=8, **settings):
    return mmcv.cnn.ConvModule(
        channels, channels, 3, **{'padding': 1, 'norm_cfg': {'type': 'BN'}, **settings}
    )


class Net(nn.Module):
    """A stem, whose layer is kept, and the module under test."""

    def __init__(self, module):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.module = module

    def forward(self, x):
        return self.module(self.stem(x))


def randomize(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    return model.eval()


def with_shortcuts(module, **settings):
    torch.manual_seed(0)
    net = randomize(Net(module))
    binarize(net, shortcuts=True, **settings)
    return net


def image():
    return torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1))


MODULES = {
    'norm and activation': {},
    'no activation': {'act_cfg': None},
    'no norm': {'norm_cfg': None},
    'stride 2': {'stride': 2},
    'dilated': {'padding': 2, 'dilation': 2},
    'group norm': {'norm_cfg': {'type': 'GN', 'num_groups': 2}},
}


@torch.no_grad()
@pytest.mark.parametrize('name', MODULES)
def test_a_conv_module_adds_its_input_before_the_activation(name):
    net = with_shortcuts(conv_module(**MODULES[name]))
    module, x = net.module, net.stem(image())
    expected = module.conv(x)
    if module.with_norm:
        expected = module.norm(expected)
    stride = module.stride[0]
    expected = expected + F.avg_pool2d(x, stride, ceil_mode=True, count_include_pad=False)
    assert torch.equal(module(x, activate=False), expected)
    if module.with_activation:
        expected = F.leaky_relu(expected, 0.25)
    assert torch.equal(net(image()), expected)


def test_gradients_pass_through_the_shortcut():
    net = with_shortcuts(conv_module(act_cfg=None)).train()
    nn.init.zeros_(net.module.norm.weight)  # nothing comes through the convolution
    x = net.stem(image()).detach().requires_grad_()
    net.module(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@torch.no_grad()
@pytest.mark.parametrize('name', MODULES)
def test_a_packed_module_gives_the_same_output_to_the_bit(name):
    net = with_shortcuts(conv_module(**MODULES[name])).to(memory_format=torch.channels_last)
    expected = net(image())
    packed = pack(copy.deepcopy(net))
    assert torch.equal(packed(image()), expected)
    fused = isinstance(packed.module.conv, PackedShortcutConv2d)
    assert fused == (name != 'group norm')  # a group norm does not fold


def sequence():
    return nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.GroupNorm(2, 16),
        nn.ReLU(),
    )


@torch.no_grad()
def test_a_sequence_adds_the_input_of_a_convolution_behind_its_norm():
    net = with_shortcuts(sequence()).to(memory_format=torch.channels_last)
    x = net.stem(image())
    layers = list(net.module)
    y = layers[2](layers[1](layers[0](x)) + x)
    y = layers[3](y)  # 8 to 16 channels
    y = layers[5](layers[4](y) + y)
    pooled = F.avg_pool2d(y, 2, ceil_mode=True, count_include_pad=False)
    y = layers[8](layers[7](layers[6](y)) + pooled)
    assert torch.equal(net.module(x), y)
    assert [report.shortcut for report in layer_reports(net)] == [False, True, False, True, True]
    assert torch.equal(pack(copy.deepcopy(net))(image()), net(image()))


@torch.no_grad()
def test_a_sequence_keeps_its_shortcuts_when_modules_are_taken_added_or_removed():
    net = with_shortcuts(sequence())
    x = net.stem(image())
    whole, first = net.module(x), net.module[:3](x)
    layers = list(net.module)
    assert torch.equal(first, layers[2](layers[1](layers[0](x)) + x))
    assert torch.equal(net.module[3:](first), whole)
    net.module.insert(0, nn.Tanh())
    net.module.append(nn.Tanh())
    assert torch.equal(net.module[1:-1](x), whole)
    del net.module[0]
    net.module.pop(-1)
    assert torch.equal(net.module(x), whole)
    del net.module[:3]
    assert torch.equal(net.module(first), whole)


@torch.no_grad()
def test_a_slice_of_a_sequence_with_a_convolution_twice_has_the_shortcuts_of_the_whole():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    net = with_shortcuts(nn.Sequential(conv, nn.PReLU(), conv, nn.PReLU()))
    x = net.stem(image())
    assert torch.equal(net.module[2:](net.module[:2](x)), net.module(x))


def test_a_model_that_is_itself_a_sequence_has_shortcuts():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), *sequence())
    assert [report.shortcut for report in binarize(net, shortcuts=True)] == [0, 1, 0, 1, 1]


def test_keys_and_parameters_are_those_of_before():
    net = Net(nn.Sequential(conv_module(), sequence()))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    binarize(net, binary={'compensator': None}, shortcuts=True)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@torch.no_grad()
def test_the_full_precision_forms_keep_the_shortcuts():
    torch.manual_seed(0)
    net = randomize(Net(conv_module()))
    real = copy.deepcopy(net)
    binarize(real, shortcuts=True, structure_only=True)
    x = net.stem(image())
    expected = F.leaky_relu(net.module.norm(net.module.conv(x)) + x, 0.25)
    assert torch.equal(real(image()), expected)
    assert layer_reports(real)[1].shortcut

    binarize(net, shortcuts=True)
    expected = F.relu(net.module.norm(to_float(net).module.conv(x)) + x)
    assert torch.equal(net(image()), expected)


def test_a_rule_decides_for_its_layers():
    settings = [
        ({}, [{'name': '*.0.*', 'to': {'shortcuts': True}}], [True, False]),
        ({'shortcuts': True}, [{'name': '*.0.*', 'to': {'shortcuts': False}}], [False, True]),
    ]
    for arguments, rules, expected in settings:
        net = Net(nn.Sequential(conv_module(), conv_module()))
        reports = binarize(net, rules, **arguments)
        assert [report.shortcut for report in reports if report.binary] == expected


class Other(mmcv.cnn.ConvModule):
    """Its forward may differ."""


@pytest.mark.parametrize(
    'module',
    [
        mmcv.cnn.ConvModule(8, 16, 3, padding=1),
        conv_module(padding=0),
        conv_module(stride=(1, 2)),
        conv_module(order=('act', 'conv', 'norm')),
        conv_module(padding_mode='reflect'),
        Other(8, 8, 3, padding=1),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding='same')),
        nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1)]),
    ],
)
def test_without_a_place_for_a_shortcut_it_is_an_error_and_nothing_is_changed(module):
    net = Net(module)
    before = str(net)
    with pytest.raises(UsageError, match='shortcuts=True: none of the 1 layers of Net to binarize'):
        binarize(net, shortcuts=True)
    assert str(net) == before


def test_sequences_that_are_called_part_by_part_have_none():
    with DefaultScope.overwrite_default_scope('mmdet'):
        ssd = DETECTORS.build(
            {
                'type': 'SSDVGG',
                'depth': 16,
                'with_last_pool': False,
                'ceil_mode': True,
                'out_indices': (3, 4),
                'out_feature_indices': (22, 34),
            }
        )
    with pytest.raises(UsageError, match='none of the 13 layers of SSDVGG'):
        binarize(ssd, shortcuts=True)


def test_a_rule_whose_layers_can_have_no_shortcut_is_an_error_and_nothing_is_changed():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1))
    before = str(net)
    rules = [{'name': '1', 'to': {'shortcuts': True}}, {'name': '0', 'to': {'shortcuts': True}}]
    with pytest.raises(
        UsageError, match=r'rules\[0\] has shortcuts=True, but none of its 1 layers'
    ):
        binarize(net, rules=rules)
    assert str(net) == before


class PartByPart(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        x = self.stem(x)
        for layer in self.body:
            x = layer(x)
        return x


@pytest.mark.parametrize('training', [True, False])
def test_a_model_that_calls_a_sequence_part_by_part_is_an_error_that_names_the_rule(training):
    net = PartByPart().train(training)
    binarize(net, shortcuts=True)
    rule = r"dict\(name='body.0', to=dict\(shortcuts=False\)\)"
    with pytest.raises(UsageError, match=f'body.0: PartByPart calls the parts.*put {rule}'):
        net(image())
    net = PartByPart().train(training)
    binarize(net, [{'name': 'body.0', 'to': {'shortcuts': False}}])
    net(image())


@pytest.mark.parametrize('build', [conv_module, sequence])
@pytest.mark.parametrize('back', ['to_float', 'structure_only'])
def test_a_model_that_has_shortcuts_is_binarized_again_with_them(build, back):
    net, again = Net(build()), Net(build())
    binarize(net, shortcuts=True)
    if back == 'to_float':
        binarize(again, shortcuts=True)
        to_float(again)
    else:
        binarize(again, shortcuts=True, structure_only=True)
    binarize(again, shortcuts=True)
    expected = [report.shortcut for report in layer_reports(net)]
    assert any(expected) and [report.shortcut for report in layer_reports(again)] == expected
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(image()), net.eval()(image()))


def test_a_rule_removes_the_shortcut_of_an_earlier_call_and_the_default_keeps_it():
    pair = Net(nn.Sequential(conv_module(), sequence()))
    binarize(pair, shortcuts=True)
    to_float(pair)
    kept = copy.deepcopy(pair)
    assert sum(report.shortcut for report in binarize(kept)) == 4
    rules = [{'name': name, 'to': {'shortcuts': False}} for name in ('module.0.*', 'module.1.4')]
    reports = binarize(pair, rules)
    named = {report.name for report in reports if report.shortcut}
    assert named == {'module.1.0', 'module.1.6'}
    assert type(pair.module[0]) is mmcv.cnn.ConvModule

    to_float(pair)
    binarize(pair, [{'name': 'module.*', 'to': {'shortcuts': False}}])
    assert type(pair.module[1]) is nn.Sequential
    assert not any(report.shortcut for report in layer_reports(pair))


def test_the_setting_of_a_rule_is_a_bool():
    with pytest.raises(UsageError, match=r"rules\[0\]: to: shortcuts='no' must be True or False"):
        binarize(Net(conv_module()), [{'name': 'module.conv', 'to': {'shortcuts': 'no'}}])
