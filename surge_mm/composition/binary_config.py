"""The config of a binary model over the config of a trained full-precision one."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from keyword import iskeyword
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from surge_mm.composition.methods import BINARIZED, METHOD_HOOKS, has_own_backbone
from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.layer_reports import layer_reports
from surge_mm.models.binarization.shortcuts import find_places
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.hosts import default_scope
from surge_mm.utils.logging import warn

STE = Config({'conv_cfg': {'type': 'surge_mm.SurgeConv2d', 'compensator': None}})
"""The method without an auxiliary branch."""
RATE_FACTOR, LARGEST_RATE = 5, 0.01
"""Learning rate of a student of Adam or AdamW, as a multiple of that of its teacher, and its largest value."""


def require_full_precision(model: nn.Module, config: str) -> None:
    """Raise an error if a layer of a model is binary.

    Args:
        model (nn.Module): The model.
        config (str): Path of its config, for the message.

    Raises:
        LaunchError: if one is.
    """
    if binary := binary_layers(model):
        raise LaunchError(
            f'config {config!r}: {len(binary)} of its layers are binary, such as {binary[0][0]}. Use the config of the '
            'full-precision model'
        )


def binary_config(
    cfg: Config,
    base: str,
    method: Config,
    checkpoint: str,
    teacher: str | None = None,
    keep: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the keys of a config that inherits from ``base`` and trains its model in 1 bit.

    The model starts from the weights of ``checkpoint``. With a teacher, ``surge_mm.DistilledDetector`` takes them from
    it. Otherwise, and for ``surge_mm.DistilledClassifier``, ``load_from`` names them. Batch norms adapt to the binary
    layers, and frozen stages, whose layers would stay in full precision, are trained. A student of a detector has 5
    times the learning rate of ``base``, and at most 0.01, where the optimizer is Adam or AdamW and its rate is below.

    Args:
        cfg (Config): Content of ``base``, a config of a full-precision model.
        base (str): Path of that config, or its name with the prefix of a host.
        method (Config): Settings of the binary layers, as in ``configs/_base_/methods``.
        checkpoint (str): Checkpoint of the full-precision model.
        teacher (str, optional): Path of the config of the teacher, to which ``checkpoint`` belongs. Defaults to None:
            without a teacher.
        keep (Sequence[str]): Glob patterns of the names of layers that stay in full precision. Those that begin with
            ``backbone`` reach the layers that a backbone of this package makes binary by its ``conv_cfg``: if they
            match one, rules make the others binary in its place. Defaults to ().

    Returns:
        dict: The keys.

    Raises:
        LaunchError: if the model of ``cfg`` is binary by its config.
    """
    kind = cfg.model.type
    classifies = class_name(cfg.model.get('base_type', kind)) == 'ImageClassifier'
    by_detector = teacher is not None and not classifies
    model: dict[str, Any] = {
        'type': 'surge_mm.DistilledDetector' if by_detector else 'surge_mm.Binarized'
    }
    if class_name(kind) in BINARIZED:
        if class_name(kind) != 'Binarized' or not cfg.model.get('structure_only'):
            raise LaunchError(
                f'config {base!r}: its model is of type {kind!r}, which is binary. Use the config of the '
                'full-precision model, or add structure_only=True to the model'
            )
        model['structure_only'] = False
    else:
        model['base_type'] = (
            f'{cfg.default_scope}.{kind}' if isinstance(kind, str) and '.' not in kind else kind
        )
    if teacher:
        model['teacher'] = {'config': teacher, 'checkpoint': checkpoint}
        if classifies:
            model['base_type'] = 'surge_mm.DistilledClassifier'
        else:
            model['init'] = 'teacher'
    backbone = _backbone(cfg.model, method)
    if keep:
        rules, by_rules = _keep_rules(cfg, method, keep)
        if by_rules:
            del backbone['conv_cfg']
        model['rules'] = [*rules, *(cfg.model.get('rules') or [])]
    settings = {key: value for key, value in method.conv_cfg.to_dict().items() if key != 'type'}
    model['binary'] = _replacing(cfg.model, 'binary', settings)
    if backbone:
        model['backbone'] = backbone
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else list(imports)
    content: dict[str, Any] = {
        '_base_': base,
        'custom_imports': {'imports': [*dict.fromkeys([*imports, 'surge_mm'])]},
        'model': model,
        'load_from': None if by_detector else checkpoint,
        'resume': False,
    }
    rate = _student_rate(cfg) if by_detector else None
    if rate:
        content['optim_wrapper'] = {'optimizer': {'lr': rate}}
    own_hooks = [*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()]
    kept = {class_name(hook.get('type')) for hook in own_hooks if hook}
    hooks = {
        METHOD_HOOKS[name]: hook.to_dict()
        for hook in method.get('custom_hooks', [])
        if (name := class_name(hook.type)) not in kept
    }
    if hooks:
        content['default_hooks'] = hooks
    if not cfg.get('runner_type'):
        content['runner_type'] = 'surge_mm.SafeRunner'
    return content


def merged(cfg: Config, content: Mapping[str, Any]) -> Config:
    """Return the config that a file with the keys of :func:`binary_config` gives.

    Args:
        cfg (Config): Content of its base.
        content (dict): The keys.
    """
    whole = copy.deepcopy(cfg)
    whole.merge_from_dict(copy.deepcopy({k: v for k, v in content.items() if k != '_base_'}))
    return whole


def _student_rate(cfg: Config) -> float | None:
    """Return the learning rate of the student, or None if that of ``cfg`` stays."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    rate = optimizer.get('lr')
    if class_name(optimizer.get('type')) not in ('Adam', 'AdamW') or not rate:
        return None
    larger = min(round(RATE_FACTOR * rate, 9), LARGEST_RATE)
    return larger if larger > rate else None


def _backbone(model: Mapping[str, Any], method: Config) -> dict[str, Any]:
    """Return the settings of the backbone to change."""
    backbone = model.get('backbone') or {}
    changed: dict[str, Any] = {}
    if has_own_backbone(model):
        changed['conv_cfg'] = _replacing(backbone, 'conv_cfg', method.conv_cfg.to_dict())
    if backbone.get('norm_eval'):
        changed['norm_eval'] = False
    if backbone.get('frozen_stages', -1) >= 0:
        changed['frozen_stages'] = -1
    if backbone.get('init_cfg'):  # the checkpoint has all weights
        changed['init_cfg'] = None
    return changed


def _keep_rules(
    cfg: Config, method: Config, keep: Sequence[str]
) -> tuple[list[dict[str, str]], bool]:
    """Return rules that keep layers, and whether they also decide about the layers of a backbone of this package."""
    first = [pattern for pattern in keep if pattern.startswith('backbone')]
    later = [pattern for pattern in keep if pattern not in first]
    names: list[str] = []
    if has_own_backbone(cfg.model):
        with default_scope(cfg.get('default_scope')):
            built = MODELS.build({**cfg.model.backbone, 'conv_cfg': method.conv_cfg})
        names = [f'backbone.{places[0]}' for places in binary_layers(built)]
    others = [name for name in names if not _matches(name, first)]
    if missed := [name for name in others if _matches(name, later)]:
        warn(
            f'keep: {", ".join(map(repr, later))} does not reach the binary layers of the backbone ({missed[0]} and '
            f"{len(missed) - 1} more). To keep some of them, begin a pattern with 'backbone'"
        )
    rules = [{'name': pattern, 'to': 'keep'} for pattern in first]
    by_rules = len(others) < len(names)
    if by_rules:
        rules += [{'name': name, 'to': 'binary'} for name in others]
    return [*rules, *({'name': pattern, 'to': 'keep'} for pattern in later)], by_rules


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _replacing(base: Mapping[str, Any], key: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return a dict that replaces the one of the base, instead of being merged into it."""
    return {'_delete_': True, **value} if key in base else value


def config_text(content: Mapping[str, Any]) -> str:
    """Format the keys of a config as Python.

    Args:
        content (dict): The keys.
    """
    return ''.join(f'{key} = {_format(value, 0)}\n' for key, value in content.items())


def _format(value: Any, indent: int) -> str:
    if isinstance(value, Mapping):
        named = all(isinstance(key, str) and key.isidentifier() for key in value)
        named = named and not any(map(iskeyword, value))
        opening, closing = ('dict(', ')') if named else ('{', '}')
        items = [
            (f'{key}=' if named else f'{key!r}: ') + _format(item, indent + 4)
            for key, item in value.items()
        ]
    elif isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [_format(item, indent + 4) for item in value]
    elif isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    else:
        return repr(value)
    end = ',' if isinstance(value, tuple) and len(items) == 1 else ''
    line = opening + ', '.join(items) + end + closing
    if '\n' not in line and indent + len(line) < 90:
        return line
    lines = ''.join(f'{" " * (indent + 4)}{item},\n' for item in items)
    return f'{opening}\n{lines}{" " * indent}{closing}'


def can_have_shortcuts(model: nn.Module) -> bool:
    """Return whether a layer that :func:`surge_mm.binarize` made binary can have a shortcut.

    Args:
        model (nn.Module): A binarized model.
    """
    binary = {report.name for report in layer_reports(model) if report.binary}
    return bool(find_places(model, {model.get_submodule(name) for name in binary}))


def binary_layers(model: nn.Module) -> list[tuple[str, ...]]:
    """Return all names of each binary layer of a model, in the order of the model.

    Args:
        model (nn.Module): A model. A layer that is shared has several names.
    """
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, BinaryLayer):
            names.setdefault(id(module), []).append(name)
    return [tuple(places) for places in names.values()]
