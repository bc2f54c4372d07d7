"""The sentence that is made of an error."""

import pytest
from mmcv.cnn import ConvModule, build_padding_layer
from mmengine.registry import FUNCTIONS, HOOKS, MODELS, OPTIMIZERS, DefaultScope
from torch import nn

from surge_mm.utils.errors import UsageError
from surge_mm.utils.registry_errors import explain, near_name


def said_of(build, *args, **kwargs):
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(Exception) as raised:  # noqa: B017
        build(*args, **kwargs)
    return explain(raised.value)


@pytest.mark.parametrize(
    'build, cfg, message',
    [
        (
            MODELS.build,
            {'type': 'ResNet', 'dept': 18},
            "'dept'; did you mean 'depth'? Known: depth",
        ),
        (HOOKS.build, {'type': 'LoggerHook', 'intervall': 3}, "did you mean 'interval'?"),
        (MODELS.build, {'type': 'RetinaNett'}, "mmdet::model registry; did you mean 'RetinaNet'?"),
        (MODELS.build, {'type': 'SurgeResNet'}, "did you mean 'surge_mm.SurgeResNet'?"),
        (MODELS.build, {'type': 'surgemm.SurgeResNet'}, "did you mean 'surge_mm.SurgeResNet'?"),
        (MODELS.build, {'type': 'Zyx'}, 'registry. A class of your own needs its module in custom'),
        (MODELS.build, {'tpye': 'ResNet'}, "has no type; did you mean 'type' by 'tpye'?"),
        (MODELS.build, {}, '{} has no type'),
    ],
)
def test_misspelt_names_are_suggested(build, cfg, message):
    assert message in said_of(build, cfg)


def test_layers_of_mmcv_are_suggested():
    said = said_of(ConvModule, 3, 4, 3, conv_cfg={'type': 'surge_mm.SurgeConv'})
    assert said == "surge_mm.SurgeConv is no layer; did you mean 'surge_mm.SurgeConv2d'?"
    assert said_of(build_padding_layer, {'type': 'zeros'}, 1).startswith('zeros is no layer')
    said = said_of(ConvModule, 3, 4, 3, conv_cfg={'type': 'surge_mm.SurgeConv2d', 'wieght': None})
    assert "'wieght'; did you mean 'weight'?" in said


def test_the_key_of_a_wrapper_is_suggested_too():
    cfg = {'type': 'surge_mm.Binarized', 'base_type': 'mmdet.RetinaNet', 'ruls': []}
    assert "'ruls'; did you mean 'rules'?" in said_of(MODELS.build, cfg)


def test_a_value_that_a_host_refuses_is_shown_with_its_key():
    parameters = [nn.Parameter(nn.Linear(1, 1).weight.data)]
    said = said_of(OPTIMIZERS.build, {'type': 'SGD', 'params': parameters, 'lr': 'fast'})
    assert said.startswith('TypeError: ') and "in SGD(lr='fast')" in said
    assert 'sgd.py:' in said


def test_an_error_that_says_nothing_is_shown_with_its_place():
    class Silent:
        def __init__(self, width):
            try:
                assert width < 3
            except AssertionError:
                raise RuntimeError from None

    said = said_of(Silent, 7)
    assert said.startswith('RuntimeError:  (test_registry_errors.py:')
    assert said.endswith('in Silent(width=7))')


def test_what_we_say_ourselves_is_said_alone():
    assert said_of(MODELS.build, {'type': 'surge_mm.SurgeResNet', 'depth': 19}) == (
        'depth=19 must be one of 18, 20, 34, 50'
    )
    error = UsageError('layer1: no')
    error.__cause__ = ValueError('something else')
    assert explain(error) == 'layer1: no'


def test_the_scope_of_the_config_needs_no_prefix():
    with DefaultScope.overwrite_default_scope('mmdet'), MODELS.switch_scope_and_registry(None) as r:
        assert near_name('FCOSS', r) == "; did you mean 'FCOS'?"
        assert near_name('ImageClasifier', r) == "; did you mean 'mmpretrain.ImageClassifier'?"
    assert near_name('default_collat', FUNCTIONS) == "; did you mean 'default_collate'?"
