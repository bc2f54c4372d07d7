"""Rules, settings and models that binarize refuses, without a change of the model."""

import re

import pytest
import torchvision
from helpers.rule_network import Network
from torch import nn

from surge_mm import binarize, to_float
from surge_mm.utils.errors import UsageError


def shared_in_two_places():
    shared = nn.Conv2d(8, 8, 3)
    return nn.ModuleDict({'one': shared, 'two': shared})


def one_weight_in_two_layers():
    model = nn.ModuleDict({'one': nn.Conv2d(8, 8, 3), 'two': nn.Conv2d(8, 8, 3)})
    model['two'].weight = model['one'].weight
    return model


@pytest.mark.parametrize(
    'make, rules, message',
    [
        (
            Network,
            [{'name': 'blok.conv1', 'to': 'keep'}],
            'similar names: block.conv1, block.conv2',
        ),
        (
            Network,
            [{'type': 'Conv3d', 'to': 'keep'}],
            'classes of its layers are Conv2d, ConvTranspose2d',
        ),
        (
            Network,
            [{'name': 'names', 'to': 'binary'}],
            'binarizes names, .* class Embedding has no binary form',
        ),
        (
            Network,
            [{'name': 'up', 'to': {}}],
            'binarizes up, .* class ConvTranspose2d has no binary form',
        ),
        (
            Network,
            [{'name': 'block.*', 'to': 'keep'}, {'name': 'block.conv1', 'to': 'binary'}],
            r"rules\[1\] .*block.conv1.* never decides: .* decided by rules\[0\] \(name='block.\*'\)",
        ),
        (Network, [{'to': 'keep'}], 'no layer of Network becomes binary'),
        (Network, [{'nam': 'block.*', 'to': 'keep'}], "unknown key 'nam'; did you mean 'name'"),
        (Network, [{'name': 'block.*'}], "to=None must be 'keep' or 'binary' or a dict"),
        (Network, ['block.*'], 'rules=.* must be a list, of which each is a dict, or None'),
        (Network, {'name': 'a', 'to': 'keep'}, 'must be a list, of which each is a dict, or None'),
        (Network, {'name': 'block.*'}, 'must be a list'),
        (Network, [{'min_channels': '256', 'to': 'keep'}], "min_channels='256' must be a whole"),
        (
            Network,
            [{'kernel_size': 3.0, 'to': 'keep'}],
            'kernel_size=3.0 must be a whole number of at least 1',
        ),
        (
            Network,
            [{'type': 7, 'to': 'keep'}],
            'type=7 must be a string',
        ),
        (Network, [{'grouped': 'no', 'to': 'keep'}], "grouped='no' must be True or False"),
        (
            Network,
            [{'name': 'wide', 'to': {'type': 'Conv2d'}}],
            r"rules\[0\]: to: type='Conv2d' must",
        ),
        (Network, [{'name': 'wide', 'to': {'eta': 1}}], "to: unknown setting 'eta'"),
        (Network, [{'name': '*conv2', 'to': {'pad_value': 1}}], 'block.conv2: pad_value=1 and'),
        (
            shared_in_two_places,
            [{'name': 'one', 'to': 'keep'}],
            r'one and two are one shared layer.* rules\[0\] and default: 3x3',
        ),
        (
            shared_in_two_places,
            [{'name': 'one', 'to': {'compensator': None}}, {'name': 'two', 'to': 'binary'}],
            r'one and two are one shared layer.* rules\[0\] and rules\[1\] decide',
        ),
        (one_weight_in_two_layers, None, 'one and two share one weight'),
    ],
)
def test_rules_of_no_use_are_refused_and_nothing_is_changed(make, rules, message):
    model = make()
    before = {name: id(module) for name, module in model.named_modules()}
    with pytest.raises(UsageError, match=message):
        binarize(model, rules)
    assert {name: id(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'binary': 'surge_mm.SurgeConv2d'}, 'binary=.* must be a dict'),
        ({'binary': None}, 'binary=None must be a dict'),
        ({'binary': {'type': 'Conv2d'}}, "binary: type='Conv2d' must be 'surge_mm.SurgeConv2d'"),
        ({'binary': {'weight': {'type': 'Sgin'}}}, "block.conv1: .*did you mean 'Sign'"),
        (
            {'binary': {'compensater': None}},
            "unknown setting 'compensater'; did you mean 'compensator'",
        ),
        ({'binary': {'activation': {'type': 'STE'}}}, "did you mean 'STESign'"),
        ({'binary': {'activation': {'type': 'ReCU'}}}, r"ReCU is for weight=dict\(type='ReCU'\)"),
        ({'binary': {'activation': 'EDE'}}, r"must be a dict, such as dict\(type='EDE'\)"),
        (
            {'binary': {'compensator': {'type': 'STE'}}},
            'compensator=None is the plain binary layer',
        ),
        ({'binary_act_cfg': {'type': 'Relu9'}}, "binary_act_cfg={'type': 'Relu9'} must be"),
        ({'binary_act_cfg': 'LeakyReLU'}, "binary_act_cfg='LeakyReLU' must be"),
        ({'binary_act_cfg': {'type': 'surge_mm.RPReLU'}}, 'needs no number of channels'),
    ],
)
def test_settings_of_the_wrong_kind_are_refused_and_nothing_is_changed(settings, message):
    model = Network()
    before = {name: id(module) for name, module in model.named_modules()}
    with pytest.raises(UsageError, match=message):
        binarize(model, **settings)
    assert {name: id(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize(
    'again',
    [
        {'binary': {'compensator': None}},
        {'rules': [{'name': '*', 'to': 'keep'}]},
        {'rules': [{'name': '0', 'to': 'keep'}]},
        {},
    ],
)
@pytest.mark.parametrize('rest', [(), (nn.Linear(8, 8),)], ids=['all binary', 'some kept'])
def test_a_model_is_binarized_once_or_after_to_float(again, rest):
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), *rest)
    binarize(model)
    with pytest.raises(UsageError, match=r"Sequential was binarized before: 2 .* first '0'"):
        binarize(model, **again)
    assert binarize(to_float(model))[0].binary


def test_the_error_of_a_model_whose_layers_are_all_kept_shows_a_rule_that_works():
    model = torchvision.models.mobilenet_v2()
    with pytest.raises(
        UsageError, match=r'default: 1x1: 34, default: depthwise or grouped: 17'
    ) as error:
        binarize(model)
    (rule,) = re.findall(r'dict\(.*?\)(?=, or leave)', str(error.value))
    reports = binarize(model, [eval(rule)])
    assert sum(report.binary for report in reports) == 34


def test_the_error_of_a_model_without_a_layer_with_a_binary_form_says_so():
    with pytest.raises(UsageError, match='None of them has a binary form; Conv2d and Linear have'):
        binarize(nn.Sequential(nn.Conv1d(8, 8, 3), nn.Embedding(4, 8)))


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (nn.Conv2d(8, 8, 3), 'Conv2d contains no layer with weights, .* into an nn.Sequential'),
        (nn.Sequential(nn.LazyConv2d(8, 3)), '0 and all other layers .* run the model on a batch'),
    ],
)
def test_a_model_without_layers_to_decide_about_is_an_error_with_the_way_out(model, message):
    with pytest.raises(UsageError, match=message):
        binarize(model)
