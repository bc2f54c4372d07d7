"""Misspelt keys of a config that MMEngine would ignore, or find when the data is loaded already.

MMEngine reads the keys that it knows and leaves others alone: ``custom_hook=[...]`` trains without the hook. A config
may hold variables of its author, so a key is refused only if it resembles one that is read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from mmengine.config import Config
from mmengine.registry import (
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    DefaultScope,
    Registry,
)
from mmengine.runner import Runner
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from surge_mm.arguments import accepted, fits, near, words
from surge_mm.config_errors import near_name
from surge_mm.errors import LaunchError

RUNNER = {name: get_type_hints(Runner.__init__)[name] for name in accepted(Runner) if name != 'cfg'}
OTHERS = (
    'runner_type',
    'custom_imports',
    'vis_backends',
    'model_wrapper_cfg',
    'find_unused_parameters',
    'sync_bn',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
)
"""What is read of a config beside the Runner's arguments."""
SECTIONS = {
    'default_hooks': (
        'runtime_info',
        'timer',
        'sampler_seed',
        'logger',
        'param_scheduler',
        'checkpoint',
        'visualization',
    ),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
}
PARAMWISE = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'dwconv_decay_mult',
    'flat_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)
Section = tuple[str, Mapping[str, Any], list[str]]


def check_keys(cfg: Config) -> None:
    """Refuse what resembles a key that MMEngine reads, and values of the wrong kind in its sections.

    Raises:
        LaunchError: with the place of the key, the key, and the one that is meant.
    """
    own = [key for key in cfg if key not in RUNNER and key not in OTHERS]
    _check_names('', own, [*RUNNER, *OTHERS])
    for name, hint in RUNNER.items():
        if name in cfg and not fits(cfg[name], hint):
            raise LaunchError(f'{name}={cfg[name]!r} must be {words(hint)}')
    for name, known in SECTIONS.items():
        _check_names(f'{name}.', cfg.get(name) or {}, known)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for path, section, names in _schedule(cfg):
            for key in section:
                close = near(str(key), names, cutoff=0.75)
                if key not in names and close:
                    raise LaunchError(
                        f'{path}.{key} does not exist; did you mean {close!r}? Known: {", ".join(names)}'
                    )


def _check_names(path: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse misspelt names where an author may have others too."""
    for name in names:
        meant = [one for one in known if name not in known and _one_letter_off(name, one)]
        if meant:
            raise LaunchError(
                f'{path}{name} is read by nobody; did you mean {path + meant[0]!r}? (A name of your own must differ '
                'from it by more than one letter)'
            )


def _one_letter_off(name: str, known: str) -> bool:
    """Whether one letter is left out, added, another, or changes places with the next; case and _ do not count."""
    a, b = (one.lower().replace('_', '') for one in (name, known))
    start = len(os.path.commonprefix([a, b]))
    a, b = a[start:], b[start:]
    end = len(os.path.commonprefix([a[::-1], b[::-1]]))
    a, b = a[: len(a) - end], b[: len(b) - end]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def _schedule(cfg: Config) -> Iterator[Section]:
    """What MMEngine builds when training begins, with the names that each part takes."""
    train_cfg = cfg.get('train_cfg') or {}
    kind = train_cfg.get('type') or (
        'EpochBasedTrainLoop' if train_cfg.get('by_epoch', True) else 'IterBasedTrainLoop'
    )
    yield from _built('train_cfg', {'type': kind, **train_cfg}, LOOPS, ['by_epoch'])
    schedulers = cfg.get('param_scheduler') or []
    single = isinstance(schedulers, Mapping)
    for i, scheduler in enumerate([schedulers] if single else schedulers):
        path = 'param_scheduler' if single else f'param_scheduler.{i}'
        yield from _built(path, scheduler, PARAM_SCHEDULERS, ['convert_to_iter_based'])

    wrapper = cfg.get('optim_wrapper') or {}
    others = ['constructor', 'paramwise_cfg', 'optimizer']
    yield from _built('optim_wrapper', {'type': 'OptimWrapper', **wrapper}, OPTIM_WRAPPERS, others)
    yield from _built('optim_wrapper.optimizer', wrapper.get('optimizer'), OPTIMIZERS, [])
    clip = wrapper.get('clip_grad') or {}
    clips = clip_grad_value_ if clip.get('type') == 'value' else clip_grad_norm_
    yield 'optim_wrapper.clip_grad', clip, ['type', *accepted(clips)]
    paramwise = wrapper.get('paramwise_cfg') or {}
    if 'constructor' not in wrapper:  # others have keys of their own
        yield 'optim_wrapper.paramwise_cfg', paramwise, list(PARAMWISE)
        for key, settings in (paramwise.get('custom_keys') or {}).items():
            path = f'optim_wrapper.paramwise_cfg.custom_keys.{key}'
            yield path, settings, ['lr_mult', 'decay_mult']


def _built(path: str, section: Any, registry: Registry, others: list[str]) -> Iterator[Section]:
    """A part that a registry builds.

    Raises:
        LaunchError: the registry does not know its type.
    """
    if not isinstance(section, Mapping) or not isinstance(section.get('type'), str):
        return  # a class, or what the registry refuses in words
    with registry.switch_scope_and_registry(section.get('_scope_')) as scoped:
        cls = scoped.get(section['type'])
        if cls is None:
            hint = near_name(section['type'], scoped.name, scoped.scope)
            raise LaunchError(f'{path}.type={section["type"]!r} does not exist{hint}')
    yield path, section, ['type', '_scope_', *others, *accepted(cls)]
