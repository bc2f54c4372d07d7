"""Values that arguments of surge_mm must accept, and values that they must refuse."""

from __future__ import annotations

import math
import tempfile
import types
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from surge_mm.utils.argument_checks import Within

HEAD = {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': 64}
SMALL = {'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 8}
CLASSIFIER = {
    'backbone': SMALL,
    'neck': {'type': 'GlobalAveragePooling'},
    'head': HEAD,
}
VOCABULARY = tempfile.NamedTemporaryFile('w', suffix='.txt')  # noqa: SIM115  removed at the end of the process
VOCABULARY.write('\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a']))
VOCABULARY.flush()
BERT = {
    'type': 'surge_mm.SurgeBert',
    'vocab_size': 9,
    'hidden_size': 4,
    'num_hidden_layers': 1,
    'num_attention_heads': 2,
    'intermediate_size': 4,
}
TEACHER = {'config': 'teacher.py', 'checkpoint': 'teacher.pth'}
GOOD: dict[str, dict[str, Any]] = {
    'SurrogateGradientHook': {'window': 'rms'},
    'RPReLU': {'num_channels': 4},
    'SurgeConv2d': {'in_channels': 3, 'out_channels': 4, 'kernel_size': 3},
    'SurgeLinear': {'in_features': 3, 'out_features': 4},
    'SurgeResNet': {'depth': 18, 'base_channels': 8},
    'SurgeVGGSmall': {'base_channels': 8},
    'SurgeBert': {key: value for key, value in BERT.items() if key != 'type'},
    'TextClassifier': {'backbone': BERT, 'num_classes': 2},
    'DistilledTextClassifier': {
        'backbone': BERT,
        'num_classes': 2,
        'teacher': TEACHER,
    },
    'GlueDataset': {
        'task': 'sst2',
        'data_root': 'data',
        'vocab': VOCABULARY.name,
        'lazy_init': True,
    },
    'GlueMetric': {'task': 'sst2'},
    'LengthBatchSampler': {
        'sampler': SimpleNamespace(
            shuffle=True, epoch=0, dataset=SimpleNamespace(lengths=[1]), rank=0, world_size=1
        ),
        'batch_size': 2,
    },
    'HuggingFaceInit': {'folder': 'models/bert'},
    'ReActNetA': {'base_channels': 4},
    'Binarized': {'base_type': 'surge_mm.Net', 'rules': [{'to': 'binary'}]},
    'BatchAugmentPreprocessor': {'mean': [1, 2, 3], 'std': [1, 2, 3]},
    'DistilledClassifier': {
        **CLASSIFIER,
        'teacher': TEACHER,
    },
    'DistilledDetector': {
        'base_type': 'mmdet.RetinaNet',
        'teacher': TEACHER,
        'backbone': SMALL,
        'neck': {'type': 'FPN', 'in_channels': [8, 16, 32, 64], 'out_channels': 8, 'num_outs': 5},
        'bbox_head': {'type': 'RetinaHead', 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8},
    },
    'CIFAR10Tensor': {'data_root': 'data', 'lazy_init': True},
    'FCOSSepBNHead': {'num_classes': 3, 'in_channels': 8, 'feat_channels': 8},
    'SSDHead': {
        'num_classes': 3,
        'in_channels': [8],
        'anchor_generator': {
            'type': 'SSDAnchorGenerator',
            'scale_major': False,
            'input_size': 64,
            'basesize_ratio_range': (0.2, 0.9),
            'strides': [8],
            'ratios': [[2]],
            'min_sizes': [10],
            'max_sizes': [20],
        },
    },
}
"""Arguments with which a class can be built."""
BEYOND: dict[tuple[str, str], list[Any]] = {
    ('SurgeConv2d', 'activation'): [{}, {'type': 'Sgn'}, {'type': 'ScaledSign'}],
    ('SurgeConv2d', 'weight'): [{}, {'type': 'Scaled'}, {'type': 'STESign'}],
    ('SurgeConv2d', 'groups'): [2],
    ('SurgeLinear', 'activation'): [{}, {'type': 'Sgn'}],
    ('SurgeLinear', 'weight'): [{}, {'type': 'Scaled'}],
    ('SurgeResNet', 'depth'): [0, 19, -18],
    ('SurgeResNet', 'num_stages'): [0, 5, -1],
    ('SurgeResNet', 'strides'): [[1, 2], [0, 1, 1, 1]],
    ('SurgeResNet', 'dilations'): [[1], [0, 1, 1, 1]],
    ('SurgeResNet', 'out_indices'): [[], [4], [-1]],
    ('SurgeResNet', 'frozen_stages'): [-2, 5],
    ('SurgeResNet', 'style'): ['caffe'],
    ('SurgeBert', 'num_attention_heads'): [3],
    ('SurgeBert', 'attention_bits'): [2],
    ('BatchAugmentPreprocessor', 'mean'): [[], [1, 2], [math.nan, 1, 2]],
    ('BatchAugmentPreprocessor', 'std'): [[], [1, 2], [0, 1, 1], [-1, 1, 1], [math.nan, 1, 1]],
    ('BatchAugmentPreprocessor', 'batch_augments'): [{'type': 'Mixup'}, 1],
    **{
        (name, 'teacher'): [
            {},
            {'config': 'teacher.py'},
            {**TEACHER, 'weights': 'teacher.pth'},
            {**TEACHER, 'checkpoint': None},
        ]
        for name in ('DistilledClassifier', 'DistilledDetector', 'DistilledTextClassifier')
    },
    ('CIFAR10Tensor', 'size'): [0, 7, 64, -8],
    ('AdaptiveGradientScalerHook', 'eta'): [-0.1, math.nan, math.inf],
    ('AdaptiveGradientScalerHook', 'warmup_iters'): [-1],
    ('AdaptiveGradientScalerHook', 'custom_keys'): [{'a': 1}, {'a': {'eta': -1}}],
    ('NonFiniteGuardHook', 'patience'): [0, -1],
    ('EDE', 't_min'): [0, -1, 11, math.nan],
    ('EDE', 't_max'): [0, 1e-3, math.nan, math.inf],
    ('Libra', 't_min'): [0, -1, 11, math.nan],
    ('Libra', 't_max'): [0, 1e-3, math.nan, math.inf],
    ('AdaBin', 't_min'): [0, -1, 11, math.nan],
    ('AdaBin', 't_max'): [0, 1e-3, math.nan, math.inf],
    ('ReSTE', 'o_min'): [0, 0.9, 4, math.nan],
    ('ReSTE', 'o_max'): [0.5, math.nan, math.inf],
    ('ReSTE', 't'): [0, 0.05, math.nan],
    ('ReSTE', 'm'): [0, 2, -1, math.nan],
    ('ReCU', 'tau_min'): [0.5, 0, 1, math.nan],
    ('ReCU', 'tau_max'): [0.5, 1, 2, math.nan],
    ('compensator', 'eta'): [-0.1, math.nan, math.inf],
    ('compensator', 'scale'): [-0.1, math.nan, math.inf],
    ('rule', 'kernel_size'): [0, -1, [1, 2, 3]],
    ('rule', 'max_in_channels'): [0, -4],
    ('rule', 'min_channels'): [0, -4],
    ('rule', 'to'): ['kep', 'binry'],
}
"""Values of the right type that are out of range, where the annotation has no range."""


SAMPLES: dict[str, list[Any]] = {
    'str': ['nonsense', ''],
    'int': [7],
    'float': [2.5, math.nan],
    'bool': [True],
    'None': [None],
    'list': [['nonsense'], [None]],
    'dict': [{'nonsense': 1}],
    'object': [object()],
}
TAKES: dict[Any, set[str]] = {
    str: {'str'},
    bool: {'bool'},
    int: {'int'},
    float: {'int', 'float'},
    types.NoneType: {'None'},
    type: set(),
}


def wrong_values(name: str, key: str, hint: Any) -> list[Any]:
    """Values that an argument with the annotation ``hint`` must refuse."""
    if hint is None or hint is Any:
        return list(BEYOND.get((name, key), []))
    taken = _taken(hint)
    samples = [value for kind, values in SAMPLES.items() if kind not in taken for value in values]
    return samples + _out_of_range(hint) + BEYOND.get((name, key), [])


def _taken(hint: Any) -> set[str]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _taken(inner[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(_taken, inner))
    if origin is Literal:
        return set()
    kind = origin or hint
    if kind in TAKES:
        return TAKES[kind]
    return {'dict'} if issubclass(kind, Mapping) else set()  # no list of ours takes words


def _out_of_range(hint: Any) -> list[Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [value for part in inner for value in _out_of_range(part)]
    if origin is Literal:
        return [value[:-1] for value in inner if isinstance(value, str)]
    if origin is not Annotated:
        return []
    values = []
    for limit in inner[1:]:
        if isinstance(limit, Within):
            values += [math.nan, math.inf, -math.inf]
            values += [bound for bound in (limit.low - 1, limit.high + 1) if math.isfinite(bound)]
        else:  # a dict with a type
            values += [{}, {'type': None}]
    return values
