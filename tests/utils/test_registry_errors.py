"""Messages about errors that are raised while an object is built from a config."""

import pytest
from mmengine.registry import (
    FUNCTIONS,
    HOOKS,
    LOG_PROCESSORS,
    MODELS,
    OPTIMIZERS,
    DefaultScope,
)
from torch import nn

from surge_mm.utils.errors import UsageError
from surge_mm.utils.registry_errors import explain, suggest_registered


def explanation_of(build, *args, **kwargs):
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
        (
            MODELS.build,
            {'type': 'surge_mm.SurgeConv2d', 'wieght': 1},
            "'wieght'; did you mean 'weight'?",
        ),
        (
            MODELS.build,
            {'type': 'surge_mm.Binarized', 'base_type': 'mmdet.RetinaNet', 'ruls': []},
            "Binarized: unknown argument 'ruls'; did you mean 'rules'?",
        ),
        (MODELS.build, {'type': 'RetinaNett'}, "mmdet::model registry; did you mean 'RetinaNet'?"),
        (MODELS.build, {'type': 'SurgeResNet'}, "did you mean 'surge_mm.SurgeResNet'?"),
        (MODELS.build, {'type': 'surgemm.SurgeResNet'}, "did you mean 'surge_mm.SurgeResNet'?"),
        (
            LOG_PROCESSORS.build,
            {'type': 'LogProcesor'},
            "mmdet::log_processor registry; did you mean 'LogProcessor'?",
        ),
        (MODELS.build, {'type': 'Zyx'}, 'registry. A class of your own needs its module in custom'),
        (MODELS.build, {'tpye': 'ResNet'}, 'must contain the key "type", but got {\'tpye\''),
    ],
)
def test_a_similar_name_is_suggested(build, cfg, message):
    assert message in explanation_of(build, cfg)


def test_a_message_of_mmengine_without_scope_is_explained():
    error = KeyError('Adamm is not in the optimizer registry. Please check whether it is correct.')
    assert explain(error) == "Adamm is not in the optimizer registry; did you mean 'Adam'?"


def test_an_error_of_a_host_has_its_type_and_place():
    parameters = [nn.Parameter(nn.Linear(1, 1).weight.data)]
    text = explanation_of(OPTIMIZERS.build, {'type': 'SGD', 'params': parameters, 'lr': 'fast'})
    assert text.startswith('TypeError: ') and '(sgd.py:' in text


def test_an_error_without_message_has_its_type_and_the_line_that_raised_it():
    def fail():
        raise RuntimeError

    assert explanation_of(fail).startswith(
        'RuntimeError: raise RuntimeError (test_registry_errors.py:'
    )


def test_an_error_of_surge_mm_is_its_message():
    message = 'depth=19 must be one of 18, 20, 34, 50'
    assert explanation_of(MODELS.build, {'type': 'surge_mm.SurgeResNet', 'depth': 19}) == message
    assert explain(UsageError('layer1: no')) == 'layer1: no'


def test_names_of_the_current_scope_have_no_prefix():
    with DefaultScope.overwrite_default_scope('mmdet'), MODELS.switch_scope_and_registry(None) as r:
        assert suggest_registered('FCOSS', r) == "; did you mean 'FCOS'?"
        hint = "; did you mean 'mmpretrain.ImageClassifier'?"
        assert suggest_registered('ImageClasifier', r) == hint
    assert suggest_registered('default_collat', FUNCTIONS) == "; did you mean 'default_collate'?"
