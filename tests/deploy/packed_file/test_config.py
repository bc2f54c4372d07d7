"""What of a config goes into a file, and that it comes back as it was."""

import json
from typing import Any

import numpy as np
import pytest
from helpers.packed_files import detector_config
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import MODELS

from surge_mm.deploy.packed_file.config import differences, stored_config, stored_model
from surge_mm.deploy.packed_file.json_text import from_json, to_json
from surge_mm.utils.errors import UsageError
from surge_mm.utils.suggestions import argument_names

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text().filter(lambda key: key != '()'), inner)
    ),
)


def kinds(value: Any) -> Any:
    """Return the value with the class of each part, for 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [kinds(inner) for inner in value]
    return type(value), value


@given(st.dictionaries(st.text().filter(lambda key: key != '()'), plain))
def test_json_gives_back_values_and_kinds(value):
    assert kinds(from_json(to_json(value))) == kinds(value)


def config(**model):
    return Config(
        {
            'default_scope': 'mmdet',
            'model': {'type': 'FCOS', **model},
            'val_dataloader': {'dataset': {'type': 'CocoDataset', 'pipeline': [{'type': 'A'}]}},
        }
    )


def test_keys_for_training_are_left_out_at_any_depth():
    cfg = config(
        init_cfg={'type': 'Pretrained'},
        train_cfg={'assigner': {'type': 'A'}},
        parts=[
            {'type': 'B', 'pretrained': 'x', 'conv': {'compensator': {'eta': 1}, 'c': (1, [2])}}
        ],
        data_preprocessor={'type': 'C', 'batch_augments': [1], 'mean': np.array([1.0, 2.0])},
    )
    assert stored_model(cfg) == {
        'type': 'FCOS',
        'train_cfg': None,
        'parts': [{'type': 'B', 'conv': {'compensator': None, 'c': (1, [2])}}],
        'data_preprocessor': {'type': 'C', 'mean': [1.0, 2.0]},
    }


def test_controls_of_surrogate_gradients_are_left_out():
    controls = {'gain': 1.1, 'floor': 0.1, 'window': 'rms', 'k': 2}
    layer = {'activation': {'type': 'surge_mm.STESign', **controls}, 'weight': {'type': 'Sign'}}
    rule = {'name': 'a.*', 'to': {'activation': {'type': 'ReSTE', 't': 1.4, 'floor': 0.1}}}
    other = {'type': 'Pool', 'window': 3, 'k': 2}  # of another class
    kept = {'activation': {'type': 'surge_mm.STESign'}, 'weight': {'type': 'Sign'}}
    assert stored_model(config(binary=layer, rules=[rule], part=other)) == {
        'type': 'FCOS',
        'binary': kept,
        'rules': [{'name': 'a.*', 'to': {'activation': {'type': 'ReSTE', 't': 1.4}}}],
        'part': other,
    }


def test_a_distilled_classifier_is_stored_as_an_image_classifier():
    student = {'backbone': {'type': 'B'}, 'teacher': {'type': 'T'}, 'label_weight': 1.0}
    for key in ('type', 'base_type'):
        cfg = config(**student, **{key: 'surge_mm.DistilledClassifier'})
        kept = {'type': 'FCOS', key: 'mmpretrain.ImageClassifier', 'backbone': {'type': 'B'}}
        assert stored_model(cfg) == kept


def test_a_distilled_detector_is_stored_as_a_binarized_one():
    teacher = {'config': 'a.py', 'checkpoint': 'a.pth'}
    weights = {'feat_weight': 1.0, 'cls_weight': 0.0, 'bbox_weight': 2.0}
    kept = {'base_type': 'FCOS', 'shortcuts': True, 'neck': {'type': 'N'}}
    student = {**kept, 'teacher': teacher, **weights, 'score_thr': 0.1, 'init': 'teacher'}
    cfg = config(**student, type='surge_mm.DistilledDetector')
    assert stored_model(cfg) == {'type': 'surge_mm.Binarized', **kept}
    own = argument_names(MODELS.get('surge_mm.DistilledDetector'))
    assert set(own) - {'base_type'} == set(student) - set(kept)


def test_a_distilled_text_classifier_is_stored_as_a_text_classifier():
    teacher = {'config': 'a.py', 'checkpoint': 'a.pth'}
    weights = {'hidden_weight': 1.0, 'relation_weight': 0.0, 'label_weight': 0.5}
    settings = {'teacher': teacher, **weights, 'hidden': 'mse', 'init': 'teacher'}
    kept = {'backbone': {'type': 'B'}, 'num_classes': 2}
    cfg = config(**settings, **kept, type='surge_mm.DistilledTextClassifier')
    assert stored_model(cfg) == {'type': 'surge_mm.TextClassifier', **kept}
    own = argument_names(MODELS.get('surge_mm.DistilledTextClassifier'))
    assert set(settings) <= set(own)


def test_the_preprocessor_of_the_config_is_stored_in_the_model():
    cfg = config()
    cfg.data_preprocessor = {'mean': [1]}
    assert stored_model(cfg)['data_preprocessor'] == {'mean': [1]}
    cfg.model.data_preprocessor = {'mean': [2]}
    assert stored_model(cfg)['data_preprocessor'] == {'mean': [2]}


def test_only_keys_for_inference_are_stored():
    cfg = detector_config()
    cfg.custom_imports.imports.append('mine.heads')
    before = cfg.pretty_text
    stored = stored_config(cfg, {'classes': ('a',)})
    assert cfg.pretty_text == before
    assert list(stored) == [
        'default_scope',
        'custom_imports',
        'model',
        'test_dataloader',
        'dataset_meta',
        'visualizer',
    ]
    assert stored['custom_imports'] == ['mine.heads']
    pipeline = [dict(step) for step in cfg.test_dataloader.dataset.pipeline]
    with_scope = [{'_scope_': 'mmdet', **step} for step in pipeline]
    assert stored['test_dataloader'] == {'dataset': {'pipeline': with_scope}}
    assert stored['visualizer'] == {
        '_scope_': 'mmdet',
        'type': 'DetLocalVisualizer',
        'name': 'visualizer',
    }
    assert json.loads(to_json(stored))['dataset_meta'] == {'classes': {'()': ['a']}}


def test_file_backends_of_training_are_not_stored():
    cfg = config()
    load = {'type': 'A', 'backend_args': {'backend': 'petrel'}, 'file_client_args': None}
    cfg.val_dataloader.dataset.pipeline = [load, {'type': 'B', 'transforms': [[load]]}]
    stored = stored_config(cfg, {})['test_dataloader']['dataset']['pipeline']
    assert stored == [
        {'_scope_': 'mmdet', 'type': 'A'},
        {'_scope_': 'mmdet', 'type': 'B', 'transforms': [[{'type': 'A'}]]},
    ]


def local_class():
    class Neck:
        pass

    return Neck


@pytest.mark.parametrize(
    'model, message',
    [
        (
            {'neck': {'kind': dict}},
            "model.neck.kind=<class 'dict'> cannot be stored: it is a class",
        ),
        ({'neck': {'type': local_class()}}, "local_class.<locals>.Neck'> cannot be stored"),
        ({'a': [{1: 2}]}, 'model.a.0: its key 1 cannot be stored'),
        ({'a': {'()': [1]}}, r"model.a: its key '\(\)' cannot be stored"),
        ({'a': {1, 2}}, 'model.a={1, 2} cannot be stored: it is a set'),
    ],
)
def test_a_value_that_is_not_plain_is_named(model, message):
    with pytest.raises(UsageError, match=message):
        stored_model(config(**model))


def test_differences_are_named_by_their_keys():
    one = {'a': 1, 'b': {'c': [1, 2], 'd': 1}, 'e': 1}
    other = {'a': 1, 'b': {'c': [1, 3], 'd': 1}, 'f': 1}
    assert list(differences(one, other, 'model')) == ['model.b.c', 'model.e', 'model.f']
    assert not list(differences(one, one, 'model'))
