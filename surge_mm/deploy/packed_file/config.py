"""Config inside a packed file: the part of a config that inference needs, as JSON.

Initial weights, the teacher, optimizer, hooks, surrogate gradients of the user and controls of any, paths of data and
logs are left out: only training needs them, and a reader must not trust them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.deploy.packed_file.json_text import TUPLE
from surge_mm.ops import ActivationBinarizer
from surge_mm.utils.class_names import class_name, registered_name
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import FAMILY, model_config

TRAINING = ('init_cfg', 'pretrained', 'batch_augments', 'why')
"""Arguments of models and their parts that inference does not need; each has a default. ``why`` is a rule's remark."""
NONE = ('train_cfg', 'compensator')
"""The same, but for some classes they must be None."""
WRITING = ('vis_backends', 'save_dir')
"""Arguments of a visualizer that name files to write."""
READING = ('backend_args', 'file_client_args')
"""Arguments of a pipeline that set how files are read. MMEngine's memcached backend imports a module that they name."""
TYPE_ARGUMENTS = ('type', 'base_type', 'resize_type')
"""Arguments that name a class; ``RandomResize`` builds its ``resize_type``."""
DISTILLED: dict[str, tuple[str, tuple[str, ...]]] = {
    'DistilledClassifier': ('mmpretrain.ImageClassifier', ('teacher', 'label_weight')),
    'DistilledDetector': (
        'surge_mm.Binarized',
        ('teacher', 'feat_weight', 'cls_weight', 'bbox_weight', 'score_thr', 'init'),
    ),
    'DistilledTextClassifier': (
        'surge_mm.TextClassifier',
        ('teacher', 'hidden', 'hidden_weight', 'relation_weight', 'label_weight', 'init'),
    ),
}
"""Models with a teacher, the same models without one, and the arguments that concern the teacher."""
OURS = ('surge_mm', 'mmengine', 'mmcv', *FAMILY)


def stored_config(cfg: Config, dataset_meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a config that a packed file stores.

    Args:
        cfg (Config): Config of the model.
        dataset_meta (Mapping[str, Any]): Metadata of the test set, such as its classes.

    Returns:
        dict[str, Any]: Plain values only: ``default_scope``, ``model``, ``test_dataloader.dataset.pipeline``,
        ``visualizer``, ``dataset_meta``, and the modules of ``custom_imports`` other than those of this package and of
        the hosts.

    Raises:
        UsageError: if a value of the config cannot be stored.
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
                    _scoped(_without(READING, step), scope) for step in evaluation_pipeline(cfg)
                ]
            }
        },
        'dataset_meta': dict(dataset_meta),
    }
    if visualizer:
        stored['visualizer'] = _scoped(_without(WRITING, visualizer), scope)
    return _plain(stored, '', scope)


def stored_model(cfg: Config) -> dict[str, Any]:
    """Return the part of a model's config that inference needs, with its data preprocessor.

    Raises:
        UsageError: if a value of the config cannot be stored.
    """
    model = dict(model_config(cfg))
    for key in ('type', 'base_type'):
        kind, arguments = DISTILLED.get(class_name(model.get(key)), (None, ()))
        if kind:
            model = {name: value for name, value in model.items() if name not in arguments}
            model[key] = kind
    return _without(TRAINING, _plain(model, 'model', cfg.get('default_scope')), NONE)


def _without(keys: tuple[str, ...], value: Any, none: tuple[str, ...] = ()) -> Any:
    """Return a value without ``keys`` and controls, and with None for the keys ``none``, at any depth."""
    if isinstance(value, Mapping):
        value = ActivationBinarizer.without_controls(value)
        if 'activation' in value:
            value = {**value, 'activation': ActivationBinarizer.for_inference(value['activation'])}
        return {
            key: None if key in none else _without(keys, inner, none)
            for key, inner in value.items()
            if key not in keys
        }
    if isinstance(value, (list, tuple)):
        return type(value)(_without(keys, inner, none) for inner in value)
    return value


def _scoped(step: Mapping[str, Any], scope: Any) -> dict[str, Any]:
    """Add the scope: a process may have models of both hosts, or no default scope."""
    return {'_scope_': scope, **step}


def _plain(value: Any, key: str, scope: Any) -> Any:
    """Convert classes of configs and of NumPy to plain ones, and classes that the config names to registered names.

    Raises:
        UsageError: if a value has another type.
    """
    if key.rpartition('.')[2] in TYPE_ARGUMENTS and (callable(value) or '.' in str(value)):
        name = registered_name(value, scope)
        if '<' not in name:  # else a class in a function, which has no path
            return name
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or name == TUPLE:
                raise UsageError(f'{key}: its key {name!r} cannot be stored; keys must be names')
        return {
            name: _plain(inner, f'{key}.{name}'.lstrip('.'), scope) for name, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        inner = [_plain(item, f'{key}.{i}', scope) for i, item in enumerate(value)]
        return tuple(inner) if isinstance(value, tuple) else inner
    kind = 'class' if isinstance(value, type) else type(value).__name__
    raise UsageError(
        f'{key}={value!r} cannot be stored: it is a {kind}. Write the name of a registered class, a '
        'number, a text, or lists and dicts of them'
    )


def differences(first: Any, second: Any, key: str) -> Iterator[str]:
    """Yield the keys in which two stored configs differ.

    Args:
        first (Any): A config, or a value in it.
        second (Any): The value to compare with.
        key (str): Key of both values in their configs.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys((*first, *second)):
            if (name in first) != (name in second):
                yield f'{key}.{name}'
            elif name in first:
                yield from differences(first[name], second[name], f'{key}.{name}')
    elif first != second:
        yield key
