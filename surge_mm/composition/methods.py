"""Application of a binarization method of ``configs/_base_/methods`` to any config."""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import LaunchError

METHOD_HOOKS = {
    'AdaptiveGradientScalerHook': 'ags',
    'BinarizerScheduleHook': 'binarizer_schedule',
    'SurrogateGradientHook': 'surrogate_gradient',
}
"""Hooks that belong to a method: they replace those of the config, whose other hooks are kept. Each has a key for
``default_hooks``, which MMEngine merges key by key, as it does not ``custom_hooks``."""

BINARIZED = ('Binarized', 'DistilledDetector')
"""Models whose binary layers are set by ``binary`` and ``structure_only``."""

BERT = (
    'linear_cfg',
    'activation',
    'attention',
    'attention_bits',
    'ffn_activation',
    'embedding_weight',
)
"""Arguments of ``surge_mm.SurgeBert`` that belong to a method."""


def apply_method(cfg: Config, method: Config) -> Config:
    """Return a copy of a config whose binary layers are those of a method.

    The ``conv_cfg`` of the method becomes the ``conv_cfg`` of a backbone of this package and the ``binary`` of a
    ``surge_mm.Binarized`` or ``surge_mm.DistilledDetector`` model, which has ``structure_only=True`` for full
    precision. It replaces every other ``conv_cfg`` of type ``SurgeConv2d`` in the model. In a ``surge_mm.SurgeBert``,
    the ``bert`` of the method replaces the arguments :data:`BERT`, or its ``conv_cfg`` becomes the ``linear_cfg``, and
    the others of these arguments get their defaults. The ``custom_hooks`` of the
    method replace the :data:`METHOD_HOOKS` of the config. The modules of its ``custom_imports`` are added to those of
    the config. All further keys are merged into the config.

    Args:
        cfg (Config): config to train, with or without a method of its own.
        method (Config): method, as in ``configs/_base_/methods``. ``conv_cfg=None`` means full precision.

    Returns:
        Config: the composed config, without a reference to its bases.

    Raises:
        LaunchError: if the config has no model, its model has no place for the binary layers of the method, or the
            method has neither ``conv_cfg`` nor ``bert``.
    """
    if not isinstance(cfg.get('model'), Mapping) or 'type' not in cfg.model:
        raise LaunchError(f'config {cfg.filename!r} has no model.type, so it cannot be trained')
    composed = copy.deepcopy(cfg)
    settings = copy.deepcopy(method.to_dict())
    bert = settings.pop('bert', None)
    if 'conv_cfg' not in settings and bert is None:
        raise LaunchError(
            f'method {method.filename!r} has no conv_cfg. A method sets the binary layers, such as '
            "conv_cfg=dict(type='surge_mm.SurgeConv2d', compensator=dict(eta=0.1)), or None for full precision"
        )
    conv_cfg = settings.pop('conv_cfg', None)
    hooks = settings.pop('custom_hooks', [])
    imports = _imports(cfg) + [name for name in _imports(settings) if name not in _imports(cfg)]
    if settings.pop('custom_imports', None):
        settings['custom_imports'] = {'imports': imports, 'allow_failed_imports': False}
    backbone = composed.model.get('backbone') or {}
    if class_name(backbone.get('type')) == 'SurgeBert':
        for key in BERT:
            backbone.pop(key, None)
        backbone.update(bert or {'linear_cfg': copy.deepcopy(conv_cfg)})
    elif bert is not None:
        raise LaunchError(
            f'method {method.filename!r} is for the backbone surge_mm.SurgeBert, and that of config {cfg.filename!r} '
            f'is {backbone.get("type")!r}. Use another method, such as ste or surge'
        )
    elif not _set_binary_layers(composed.model, conv_cfg):
        raise LaunchError(
            f'config {cfg.filename!r}: its model has no binary layers to which a method could apply. Use a recipe with '
            "a backbone of surge_mm, or model=dict(type='surge_mm.Binarized', base_type=...)"
        )
    kept = [hook for hook in cfg.get('custom_hooks') or [] if not _is_method_hook(hook)]
    composed.pop('custom_hooks', None)
    for key, hook in (composed.get('default_hooks') or {}).items():
        if _is_method_hook(hook):  # as tools/binarize.py writes them
            composed.default_hooks[key] = None
    for key in ('conv_cfg', 'bert'):  # variables of the previous method
        composed.pop(key, None)
    if kept or hooks:
        composed.custom_hooks = [*kept, *hooks]
    composed.merge_from_dict(settings)
    return composed


def _imports(cfg: Mapping[str, Any]) -> list[str]:
    names = (cfg.get('custom_imports') or {}).get('imports') or []
    return [names] if isinstance(names, str) else list(names)


def _set_binary_layers(model: dict[str, Any], conv_cfg: dict[str, Any] | None) -> bool:
    """Set the binary layers of a model config in place, and return whether it has a place for them."""
    found = _replace_conv_cfgs(model, conv_cfg)
    if has_own_backbone(model):
        model['backbone']['conv_cfg'] = copy.deepcopy(conv_cfg)
        found = True
    if class_name(model['type']) in BINARIZED:
        for key in ('binary', 'structure_only'):
            model.pop(key, None)
        if conv_cfg is None:
            model['structure_only'] = True
        else:
            model['binary'] = copy.deepcopy(conv_cfg)
        found = True
    return found


def _replace_conv_cfgs(node: Any, conv_cfg: dict[str, Any] | None) -> bool:
    if isinstance(node, (list, tuple)):
        return any([_replace_conv_cfgs(item, conv_cfg) for item in node])
    if not isinstance(node, Mapping):
        return False
    found = False
    for key, value in node.items():
        if (
            key == 'conv_cfg'
            and isinstance(value, Mapping)
            and class_name(value.get('type')) == 'SurgeConv2d'
        ):
            node[key] = copy.deepcopy(conv_cfg)  # type: ignore[index]
            found = True
        else:
            found |= _replace_conv_cfgs(value, conv_cfg)
    return found


def has_own_backbone(model: Mapping[str, Any]) -> bool:
    """Return whether the config of a model has a backbone of this package, whose layers ``conv_cfg`` makes binary."""
    kind = (model.get('backbone') or {}).get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind) if kind.startswith('surge_mm.') else None
    return isinstance(kind, type) and issubclass(kind, SurgeBackbone)


def _is_method_hook(hook: Any) -> bool:
    return isinstance(hook, Mapping) and class_name(hook.get('type')) in METHOD_HOOKS
