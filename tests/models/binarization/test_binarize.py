"""Models of both hosts are binarized by rules, keep their class and parameters, and are converted back."""

import copy
import re
from unittest.mock import patch

import mmcv.cnn
import pytest
import torch
from helpers.rule_network import Block, Network, binary_names
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

from surge_mm import SurgeConv2d, SurgeLinear, SurgeResNet, binarize, to_float
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.utils.errors import UsageError


def test_defaults_take_3x3_and_large_linear_and_keep_the_rest():
    model = Network()
    binarize(model)
    assert binary_names(model) == {
        'block.conv1',
        'block.conv2',
        'tower.conv',
        'bbox_head.tower.conv',
        'wide',
    }
    assert isinstance(model.wide, SurgeLinear)
    assert isinstance(model.block.conv2, SurgeConv2d)
    assert model.block.conv2.padding_mode == 'reflect' and model.block.conv2.bias is not None


def test_parameters_and_keys_are_those_of_before_and_come_back_bit_for_bit():
    model = Network()
    parameters = dict(model.named_parameters())
    values = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    out = model.eval()(x)
    binarize(model)
    assert type(model) is Network
    kept = {k: v for k, v in model.state_dict().items() if not k.endswith('aux_weight')}
    assert list(kept) == list(values)
    for name, parameter in model.named_parameters():
        assert name.endswith('aux_weight') or parameter is parameters[name]
    assert not torch.equal(model(x), out)
    assert to_float(model) is model
    assert not binary_names(model)
    assert all(p is parameters[n] for n, p in model.named_parameters())
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in values.items()
    }
    assert torch.equal(model(x), out)
    assert isinstance(model.block.relu, nn.ReLU) and model.block.relu.inplace


def test_binary_layers_compute_signs_with_the_weights_of_before():
    model = Network().eval()
    weight, bias = model.wide.weight.detach(), model.wide.bias.detach()
    binarize(model, [{'name': 'wide', 'to': {'weight': {'type': 'Sign'}}}])
    x = torch.randn(4, 300)
    expected = torch.where(x >= 0, 1.0, -1.0) @ torch.where(weight >= 0, 1.0, -1.0).t() + bias
    torch.testing.assert_close(model.wide(x), expected)


def test_the_first_rule_that_fits_decides_and_says_so():
    model = Network()
    reports = binarize(
        model,
        [
            {'name': 'block.conv1', 'to': 'keep'},
            {'name': 'block.*', 'type': 'Conv2d', 'to': {'compensator': None}},
            {'kernel_size': 1, 'min_channels': 8, 'to': 'binary'},
            {'to': 'keep'},
        ],
        binary={'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.2}},
    )
    assert binary_names(model) == {'block.conv2', 'point'}
    assert model.block.conv2.aux_weight is None
    assert model.point.scale.eta == 0.2
    rules = {report.name: report.rule for report in reports}
    assert rules['block.conv1'] == 'rules[0]' and rules['names'] == 'rules[3]'
    assert layer_reports(model) == reports


def test_a_rule_names_classes_by_themselves_or_by_their_names():
    model = Network()
    rules = [{'inside': Block, 'type': nn.Conv2d, 'to': 'binary'}, {'to': 'keep'}]
    by_class = binarize(model, rules)
    assert binary_names(model) == {'block.conv1', 'block.conv2'}
    assert by_class == binarize(
        Network(), [{**rules[0], 'inside': 'Block', 'type': 'Conv2d'}, rules[1]]
    )


def test_activations_before_binary_layers_are_signed():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU6())
    model.neck = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
    binarize(model)
    assert [type(m) for m in model.backbone[1::2]] == [nn.LeakyReLU] * 2
    assert model.backbone[1].negative_slope == 0.25
    assert isinstance(model.neck[1], nn.ReLU)  # this part holds nothing binary
    other = to_float(copy.deepcopy(model))
    assert [type(m) for m in other.backbone[1::2]] == [nn.ReLU, nn.ReLU6]
    other = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
    binarize(other, binary_act_cfg=None)
    assert isinstance(other[1], nn.ReLU)


def test_a_backbone_of_ours_decides_about_its_own_layers():
    model = nn.ModuleDict(
        {'backbone': SurgeResNet(18, base_channels=8, stem='light'), 'neck': nn.Conv2d(8, 8, 3)}
    )
    before = binary_names(model)
    binarize(model)
    assert binary_names(model) == before | {'neck'}
    binarize(model, [{'inside': 'SurgeResNet', 'kernel_size': 3, 'to': 'binary'}])
    assert binary_names(model) == before | {'neck', 'backbone.conv1.0', 'backbone.conv1.3'}


def test_frozen_layers_stay_frozen_and_dtype_and_mode_stay():
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)).double().eval()
    model[0].requires_grad_(False)
    binarize(model, [{'type': 'Conv2d', 'to': 'binary'}])
    assert not any(p.requires_grad for p in model[0].parameters())
    assert all(p.requires_grad for p in model[1].parameters())
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert not model[0].training


def test_a_shared_layer_becomes_one_binary_layer_in_all_its_places():
    shared = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), shared, nn.ModuleList([shared]))
    reports = binarize(model)
    assert model[1] is model[2][0] and isinstance(model[1], SurgeConv2d)
    assert [report.places for report in reports] == [('0',), ('1', '2.0')]
    to_float(model)
    assert model[1] is model[2][0] and type(model[1]) is nn.Conv2d


def test_without_binary_layers_it_is_the_real_network_of_the_same_structure():
    model = Network()
    reports = binarize(model, structure_only=True)
    assert not binary_names(model)
    assert isinstance(model.block.relu, nn.LeakyReLU)
    assert {report.rule for report in reports} == {'structure_only=True'}
    with pytest.raises(UsageError, match="unknown key 'nam'"):
        binarize(Network(), [{'nam': 'x', 'to': 'keep'}], structure_only=True)


def test_the_random_state_is_left_as_it_is():
    draws = []
    for make_binary in (False, True):
        torch.manual_seed(0)
        model = Network()
        if make_binary:
            binarize(model, binary={'weight': {'type': 'ReCU'}})
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_learned_gains_are_drawn_by_the_weights_of_the_layer_itself():
    gains = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        model = Network()
        torch.rand(5)
        binarize(model, binary={'weight': {'type': 'ReCU'}})
        gains.append(model.wide.weight_gain)
    assert torch.equal(gains[0], gains[1]) and not torch.equal(gains[0], gains[2])


def test_new_activations_have_the_dtype_of_the_model():
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU()).double()
    binarize(model, binary_act_cfg={'type': 'PReLU'})
    model(torch.randn(1, 8, 5, 5, dtype=torch.float64)).sum().backward()


def test_an_input_that_is_never_negative_is_named_once(capsys):
    model = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3))
    binarize(model, [{'name': '1', 'to': {'activation': {'type': 'STESign'}}}])
    logger = MMLogger.get_current_instance()
    with patch.object(logger, 'log') as log:
        for _ in range(2):
            model(torch.rand(1, 8, 9, 9))
    said = [call.args[1] for call in log.call_args_list]
    assert len(said) == 1 and said[0].startswith('0: its input is never negative')


def test_layer_reports_of_a_part_are_those_of_the_model_too():
    model = nn.ModuleDict({'backbone': nn.Sequential(nn.Conv2d(8, 8, 3)), 'fc': nn.Linear(8, 8)})
    binarize(model['backbone'])
    assert [(f.name, f.binary, f.rule) for f in layer_reports(model)] == [
        ('backbone.0', True, 'default: 3x3')
    ]
    to_float(model)
    assert layer_reports(model) == []


FASTER = {
    'type': 'surge_mm.Binarized',
    'base_type': 'mmdet.FasterRCNN',
}


def zoo(path):
    return Config.fromfile(
        f'{mmcv.__path__[0]}/../mmdet/.mim/configs/{path}', use_predefined_variables=False
    )


def test_a_config_keeps_its_keys_and_gives_the_hosts_own_class():
    cfg = zoo('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
    cfg.backbone.init_cfg = None
    plain = DETECTORS.build(copy.deepcopy(cfg))
    model = MODELS.build({**copy.deepcopy(cfg), **FASTER})
    assert type(model) is type(plain)
    keys = [key for key in model.state_dict() if not key.endswith('aux_weight')]
    assert keys == list(plain.state_dict())
    model.init_weights()
    model.load_state_dict(plain.state_dict())  # without auxiliary weights
    for name in ('rpn_head.rpn_conv', 'roi_head.bbox_head.shared_fcs.1', 'neck.fpn_convs.0.conv'):
        assert isinstance(model.get_submodule(name), BinaryLayer)
    pattern = re.compile(r'.*(fc_cls|fc_reg|rpn_cls|rpn_reg|downsample\.0|backbone\.conv1)$')
    predictors = [m for name, m in model.named_modules() if pattern.match(name)]
    assert len(predictors) == 9 and not any(isinstance(m, BinaryLayer) for m in predictors)
    real = MODELS.build({**copy.deepcopy(cfg), **FASTER, 'structure_only': True})
    assert not binary_names(real)


def test_weights_are_initialized_as_by_the_host():
    cfg = zoo('retinanet/retinanet_r50_fpn_1x_coco.py').model
    cfg.backbone.init_cfg = None
    model = MODELS.build({**cfg, **FASTER, 'base_type': 'mmdet.RetinaNet'})
    model.init_weights()
    towers = [layer for name, layer in compensated_layers(model) if 'bbox_head' in name]
    assert len(towers) == 8
    for layer in towers:  # normal, std 0.01
        assert 0.0098 < layer.weight.std() < 0.0102 and layer.weight.mean().abs() < 1e-3


def test_a_part_of_a_model_can_be_binarized_alone():
    backbone = DETECTORS.build(
        {'type': 'surge_mm.Binarized', 'base_type': 'ResNet', 'depth': 18, 'binary': {}}
    )
    assert len(binary_names(backbone)) == 16
    assert type(backbone).__name__ == 'ResNet'


def test_hooks_of_layers_that_are_replaced_are_a_warning_that_names_the_layers():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    for layer in model[:2]:
        layer.register_forward_hook(lambda *_: None)
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        binarize(model)
    (message,) = [call.args[1] for call in log.call_args_list]
    assert message.startswith('1: 1 of the modules that binarize replaces have hooks')
