"""The config inside a packed file: what inference needs of a config, as JSON.

Left out is what only training needs and what a reader must not trust: initial weights, the teacher, optimizer and
hooks, where data lies, where logs go. JSON has no tuples, and the hosts tell them from lists: ``{"()": [...]}`` is one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.utils.errors import UsageError

TUPLE = '()'
TRAINING = ('init_cfg', 'pretrained', 'batch_augments', 'why')
"""Arguments of models and their parts that inference does without; each has a default. ``why`` is a rule's remark."""
NONE = ('train_cfg', 'compensator')
"""Likewise, but some classes want to be told None."""
WRITING = ('vis_backends', 'save_dir')
"""Arguments of a visualizer that say where it writes."""
READING = ('backend_args', 'file_client_args')
"""Arguments of a pipeline that say how files are read; MMEngine's memcached imports a module from where they say."""
OURS = ('surge_mm', 'mmdet', 'mmpretrain', 'mmengine', 'mmcv')


def stored_config(cfg: Config, dataset_meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a packed file holds of a config.

    Args:
        cfg (Config): Of the model.
        dataset_meta (dict): The classes, and what else the test set says of itself.

    Returns:
        dict: Of plain values throughout: ``default_scope``, ``model``, ``test_dataloader.dataset.pipeline``,
        ``visualizer``, ``dataset_meta``, and the modules of ``custom_imports`` that are its author's own.

    Raises:
        UsageError: a value of the config is no plain one.
    """
    scope = cfg.get('default_scope')
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    visualizer = cfg.get('visualizer')
    stored: dict[str, Any] = {
        'default_scope': scope,
        'custom_imports': [
            name
            for name in ([imports] if isinstance(imports, str) else imports)
            if name.partition('.')[0] not in OURS
        ],
        'model': stored_model(cfg),
        'test_dataloader': {
            'dataset': {
                'pipeline': [
                    _scoped(_without(READING, one), scope) for one in evaluation_pipeline(cfg)
                ]
            }
        },
        'dataset_meta': dict(dataset_meta),
    }
    if visualizer:
        stored['visualizer'] = _scoped(_without(WRITING, visualizer), scope)
    return _plain(stored, '')


def stored_model(cfg: Config) -> dict[str, Any]:
    """The model of a config with what inference needs, its data preprocessor in it.

    Raises:
        UsageError: a value of the config is no plain one.
    """
    model = dict(cfg['model'])
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg['data_preprocessor'])
    for key in ('type', 'base_type'):
        if str(model.get(key)).rpartition('.')[2] == 'DistilledClassifier':
            model[key] = 'mmpretrain.ImageClassifier'
            model.pop('teacher', None)
            model.pop('label_weight', None)
    return _without_training(_plain(model, 'model'))


def _without_training(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in TRAINING}
        return {
            key: None if key in NONE else _without_training(inner) for key, inner in kept.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_without_training(inner) for inner in value)
    return value


def _without(keys: tuple[str, ...], value: Any) -> Any:
    """The value without these keys, at any depth."""
    if isinstance(value, Mapping):
        return {key: _without(keys, inner) for key, inner in value.items() if key not in keys}
    if isinstance(value, (list, tuple)):
        return type(value)(_without(keys, inner) for inner in value)
    return value


def _scoped(step: Mapping[str, Any], scope: Any) -> dict[str, Any]:
    """With the scope said, for a process may hold models of both hosts, or have no default scope."""
    return {'_scope_': scope, **step}


def _plain(value: Any, key: str) -> Any:
    """Without the classes of configs and of NumPy.

    Raises:
        UsageError: it is of another kind, such as a class in place of its name.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or name == TUPLE:
                raise UsageError(f'{key}: its key {name!r} cannot be stored; keys must be names')
        return {name: _plain(inner, f'{key}.{name}'.lstrip('.')) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        inner = [_plain(one, f'{key}.{i}') for i, one in enumerate(value)]
        return tuple(inner) if isinstance(value, tuple) else inner
    kind = 'class' if isinstance(value, type) else type(value).__name__
    raise UsageError(
        f'{key}={value!r} cannot be stored: it is a {kind}. Write the name of a registered class, a '
        'number, a text, or lists and dicts of them'
    )


def to_json(stored: Mapping[str, Any]) -> str:
    """The text of a stored config."""

    def encoded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: encoded(inner) for key, inner in value.items()}
        if isinstance(value, tuple):
            return {TUPLE: [encoded(inner) for inner in value]}
        return [encoded(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(encoded(stored), separators=(',', ':'))


def from_json(text: str) -> Any:
    """What :func:`to_json` made ``text`` of.

    Raises:
        ValueError: it is no JSON.
    """

    def decoded(pairs: dict[str, Any]) -> Any:
        inner = pairs.get(TUPLE)
        return tuple(inner) if len(pairs) == 1 and isinstance(inner, list) else pairs

    return json.loads(text, object_hook=decoded)


def differences(one: Any, other: Any, key: str) -> Iterator[str]:
    """The keys in which two stored configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            if (name in one) != (name in other):
                yield f'{key}.{name}'
            elif name in one:
                yield from differences(one[name], other[name], f'{key}.{name}')
    elif one != other:
        yield key
