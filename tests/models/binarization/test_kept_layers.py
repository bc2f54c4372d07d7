"""Layers and activations that stay as they are."""

from unittest.mock import patch

import mmcv.cnn
import pytest
import torch
import torchvision
from helpers.rule_network import binary_names
from mmengine.logging import MMLogger
from mmpretrain.models import RepVGG
from mmpretrain.models.utils import WindowMSAV2
from torch import nn

from surge_mm import SurgeResNet, binarize
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.utils.errors import UsageError


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
