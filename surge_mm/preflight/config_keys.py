"""Detection of misspelt config keys that MMEngine ignores.

MMEngine reads the keys it defines and ignores all others: with ``custom_hook=[...]`` a model trains without the hook.
A config may define variables of its own, so a key is only an error if it differs by one letter from a key of MMEngine.
Misspelt arguments of hooks, data loaders, schedules and optimizers are left to MMEngine, whose constructors raise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any, get_type_hints

from mmengine.config import Config
from mmengine.runner import Runner

from surge_mm.utils.argument_checks import describe, matches
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.suggestions import argument_names, is_one_edit_apart

RUNNER = {
    name: get_type_hints(Runner.__init__)[name] for name in argument_names(Runner) if name != 'cfg'
}
# the Runner accepts more than its annotations: a number, and None to leave a hook out
RUNNER |= {'log_level': str | int, 'default_hooks': dict | None}
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
"""Top-level keys that are read beside the arguments of the Runner."""
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
    'optim_wrapper.paramwise_cfg': (
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    ),
}
"""Parts of a config whose unknown keys MMEngine ignores, with the keys that it reads."""
CUSTOM_KEY = ('lr_mult', 'decay_mult')


def check_names(cfg: Config) -> None:
    """Check for misspelt keys that MMEngine ignores, and for values of the wrong type at the top level.

    Args:
        cfg (Config): config of a run.

    Raises:
        LaunchError: if a key differs by one letter from a key of MMEngine, or a value has the wrong type.
    """
    # configs of the new style hold the classes, functions and modules that they import
    own = [key for key, value in cfg.items() if not is_imported(value)]
    _check_section('', own, [*RUNNER, *OTHERS])
    for name, hint in RUNNER.items():
        if name in cfg and not matches(cfg[name], hint):
            raise LaunchError(f'{name}={cfg[name]!r} must be {describe(hint)}')
    for path, content, known in _sections(cfg):
        _check_section(f'{path}.', content, known)


def is_imported(value: Any) -> bool:
    """Return whether a value at the top level of a config is a class, function or module that it imports."""
    return callable(value) or isinstance(value, ModuleType)


def _sections(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any], Collection[str]]]:
    for path, known in SECTIONS.items():
        yield path, _get_dict(cfg, path), known
    path = 'optim_wrapper.paramwise_cfg.custom_keys'
    for key, settings in _get_dict(cfg, path).items():
        if isinstance(settings, Mapping):
            yield f'{path}.{key}', settings, CUSTOM_KEY


def _get_dict(cfg: Config, path: str) -> Mapping[str, Any]:
    """Return the dict at a dotted path, or an empty dict where there is none."""
    part: Any = cfg
    for key in path.split('.'):
        part = part.get(key) if isinstance(part, (Config, Mapping)) else None
    return part if isinstance(part, Mapping) else {}


def _check_section(prefix: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        meant = [key for key in known if name not in known and is_one_edit_apart(name, key)]
        if meant:
            raise LaunchError(
                f'unknown config key {prefix + name!r}; did you mean {prefix + meant[0]!r}? '
                '(Variables of your own must differ from a key of MMEngine by two letters or more)'
            )
