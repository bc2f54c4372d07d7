"""Models of both hosts are binarized by rules, keep their class and parameters, and are converted back."""

import copy
import re
from unittest.mock import patch

import mmcv.cnn
import pytest
import torch
import torchvision
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import RepVGG
from mmpretrain.models.utils import WindowMSAV2
from torch import nn

from surge_mm import SurgeConv2d, SurgeLinear, SurgeResNet, binarize, to_float
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.models.binarization.binarize import layer_reports
from surge_mm.utils.errors import UsageError


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, (3, 3), padding=1, padding_mode='reflect')
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Network(nn.Module):
    """Every kind of layer that rules speak of."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 16, 1)
        self.up = nn.ConvTranspose2d(16, 16, 2, stride=2)
        self.tower = mmcv.cnn.ConvModule(16, 16, 3, padding=1, norm_cfg={'type': 'BN'})
        self.bbox_head = nn.ModuleDict(
            {
                'tower': mmcv.cnn.ConvModule(16, 16, 3, padding=1),
                'retina_cls': nn.Conv2d(16, 18, 3, padding=1),
            }
        )
        self.names = nn.Embedding(7, 300)
        self.wide = nn.Linear(300, 256)
        self.narrow = nn.Linear(256, 5)

    def forward(self, x):
        x = self.point(self.depthwise(self.block(self.first(x))))
        x = self.tower(self.up(x))
        x = self.bbox_head['retina_cls'](self.bbox_head['tower'](x))
        words = self.names(torch.arange(7))
        return x.mean() + self.narrow(self.wide(words)).sum()


def binary_names(model):
    return {name for name, module in model.named_modules() if isinstance(module, BinaryLayer)}


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


def test_layers_whose_holder_reads_their_weights_stay_real():
    holders = nn.ModuleDict(
        {
            'swin': WindowMSAV2(embed_dims=256, window_size=(4, 4), num_heads=8),
            'encoder': nn.TransformerEncoderLayer(256, 8, 512),
            'attention': nn.MultiheadAttention(256, 8),
            'repvgg': RepVGG('A0', out_indices=(0,)),
            'free': nn.Linear(256, 256),
        }
    )
    binarize(holders)
    assert binary_names(holders) == {'free'}
    with pytest.raises(
        UsageError, match='swin.qkv, .* WindowMSAV2 computes with the weight directly'
    ):
        binarize(holders, [{'name': 'swin.qkv', 'to': 'binary'}])
    with pytest.raises(UsageError, match='RepVGG merges the weights'):
        binarize(holders, [{'name': 'repvgg.stage_1.0.branch_3x3.conv', 'to': 'binary'}])


def test_layers_whose_weight_a_hook_computes_stay_real():
    model = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 8, 3))
    model(torch.randn(1, 8, 9, 9))
    with pytest.raises(UsageError, match='0, which cannot be binary: a forward pre-hook'):
        binarize(model, [{'type': 'Conv2d', 'to': 'binary'}])
    binarize(model)
    assert binary_names(model) == {'1'}


def test_frozen_layers_stay_unless_a_rule_asks_for_them():
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    model[0].requires_grad_(False)
    binarize(model)
    assert binary_names(model) == {'1'}
    assert [report.rule for report in layer_reports(model)] == ['default: frozen', 'default: 3x3']


def test_the_classifier_of_a_model_without_a_head_stays():
    model = torchvision.models.resnet18()
    binarize(model)
    assert len(binary_names(model)) == 16 and type(model.fc) is nn.Linear


def test_activations_of_our_backbones_stay():
    backbone = SurgeResNet(18, base_channels=8, act_cfg={'type': 'ReLU'})
    model = nn.ModuleDict(
        {'backbone': backbone, 'neck': nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())}
    )
    binarize(model)
    assert isinstance(backbone.layer1[0].act1, nn.ReLU)
    assert isinstance(model['neck'][1], nn.LeakyReLU)


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


def test_a_part_that_was_binarized_before_keeps_its_settings_with_a_warning():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(8, 8, 3)), nn.Conv2d(8, 8, 3))
    binarize(model[0], binary={'compensator': None})
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        binarize(model)
    (message,) = [call.args[1] for call in log.call_args_list]
    assert message.startswith(
        "Sequential was binarized before: 1 of its layers are binary, first '0.0'"
    )
    assert model[0][0].aux_weight is None and model[1].aux_weight is not None


def test_layers_that_conv_cfg_built_are_kept_without_a_warning():
    conv_cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': None}
    model = nn.Sequential(mmcv.cnn.ConvModule(8, 8, 3, conv_cfg=conv_cfg), nn.Conv2d(8, 8, 3))
    with patch.object(MMLogger.get_current_instance(), 'log') as log:
        assert [report.name for report in binarize(model)] == ['1']
    assert not log.called and model[0].conv.aux_weight is None


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


def test_the_error_of_a_model_whose_layers_are_all_kept_shows_a_rule_that_works():
    model = torchvision.models.mobilenet_v2()
    with pytest.raises(
        UsageError, match=r'default: 1x1: 34, default: depthwise or grouped: 17'
    ) as error:
        binarize(model)
    (rule,) = re.findall(r'dict\(.*?\)(?=, or leave)', str(error.value))
    reports = binarize(model, [eval(rule)])
    assert sum(report.binary for report in reports) == 34


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(300, 256)
        self.middle = nn.Linear(256, 256)
        self.decoder = nn.Linear(256, 300)
        self.decoder.weight = self.embedding.weight


def test_a_layer_with_the_weight_of_an_embedding_is_kept():
    reports = {report.name: report for report in binarize(LanguageModel())}
    assert [name for name, report in reports.items() if report.binary] == ['middle']
    assert reports['decoder'].rule == (
        'default: its weight is that of embedding, which cannot be binary'
    )
    with pytest.raises(UsageError, match='binarizes decoder, which cannot be binary: its weight'):
        binarize(LanguageModel(), [dict(name='decoder', to='binary')])


def test_the_error_of_a_model_without_a_layer_with_a_binary_form_says_so():
    with pytest.raises(UsageError, match='None of them has a binary form; Conv2d and Linear have'):
        binarize(nn.Sequential(nn.Conv1d(8, 8, 3), nn.Embedding(4, 8)))
