"""Modules are replaced everywhere they are used; wrapped models are found; outputs are those of the network."""

import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from surge_mm.utils.modules import raw_outputs, replace_modules, unwrap_model


def test_the_model_inside_a_wrapper_is_found():
    model = nn.Linear(2, 2)
    assert unwrap_model(model) is model
    assert unwrap_model(nn.DataParallel(model)) is model


def test_a_shared_module_has_one_shared_replacement():
    shared, other = nn.ReLU(), nn.ReLU()
    model = nn.ModuleDict(
        {'first': shared, 'block': nn.Sequential(nn.Linear(2, 2), shared), 'other': other}
    )
    new = nn.PReLU()
    assert replace_modules(model, {shared: new}) is model
    assert model['first'] is new and model['block'][1] is new
    assert model['other'] is other


def test_the_model_itself_can_be_replaced():
    model, new = nn.ReLU(), nn.PReLU()
    assert replace_modules(model, {model: new}) is new


def test_a_replacement_may_contain_the_module_that_it_replaces():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer)
    wrapper = nn.Sequential(layer, nn.ReLU())
    replace_modules(model, {layer: wrapper})
    assert model[0] is wrapper and wrapper[0] is layer


def test_modules_outside_the_model_and_missing_children_are_ignored():
    model = nn.Sequential(nn.ReLU())
    model.register_module('absent', None)
    children = dict(model._modules)
    replace_modules(model, {nn.ReLU(): nn.PReLU()})
    assert model._modules == children


def test_raw_outputs_are_those_of_the_network_for_models_of_hosts_and_other_modules():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    backbone = dict(type='LeNet5', num_classes=4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        host = MODELS.build(dict(type='ImageClassifier', backbone=backbone)).eval()
    gray = images[:, :1]
    torch.testing.assert_close(raw_outputs(host, gray), host.backbone(gray))
    plain = nn.Conv2d(3, 4, 3)
    torch.testing.assert_close(raw_outputs(plain, images), plain(images))
