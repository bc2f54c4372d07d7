"""Misspelt keys of a config that MMEngine would ignore, or find when the data is loaded already.

MMEngine reads the keys that it knows and leaves others alone: ``custom_hook=[...]`` trains without the hook. A config
may hold variables of its author, so a key is refused only if it resembles one that is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

from mmengine.config import Config
from mmengine.registry import (
    DATA_SAMPLERS,
    FUNCTIONS,
    HOOKS,
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    DefaultScope,
    Registry,
)
from mmengine.runner import Runner
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from surge_mm.utils.argument_checks import (
    accepted,
    did_you_mean,
    fits,
    near,
    one_letter_off,
    takes_others,
    words,
)
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.registry_errors import near_name

RUNNER = {name: get_type_hints(Runner.__init__)[name] for name in accepted(Runner) if name != 'cfg'}
# what the Runner takes beyond its annotations: a number, and None for a hook to leave out
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
WRAPPER = ('constructor', 'paramwise_cfg', 'optimizer')
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
LOADER = (
    'dataset',
    'sampler',
    'batch_sampler',
    'collate_fn',
    'worker_init_fn',
    'num_batch_per_epoch',
)


@dataclass(frozen=True)
class Section:
    """A part of a config.

    Attributes:
        path: Its dotted key.
        content: What the config says.
        known: The keys that it takes.
        whole: Whether it takes no others.
    """

    path: str
    content: Mapping[str, Any]
    known: list[str]
    whole: bool = False

    def check(self) -> None:
        """Refuse a key that it cannot have.

        Raises:
            LaunchError: with the key that is meant.
        """
        for key in self.content:
            wrong = self.whole or near(str(key), self.known, cutoff=0.75)
            if key not in (*self.known, '_scope_') and wrong:
                hint = did_you_mean(str(key), self.known)
                raise LaunchError(f'{self.path}.{key} does not exist{hint}')


def check_names(cfg: Config) -> None:
    """Refuse what resembles a key that MMEngine reads, and values of another kind than it takes.

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


def check_parts(cfg: Config) -> None:
    """Refuse keys of hooks, data loaders, schedules and the optimizer that their classes do not take.

    Raises:
        LaunchError: likewise.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for section in (*_hooks(cfg), *_loaders(cfg), *_schedule(cfg)):
            section.check()


def _check_names(path: str, names: Iterable[str], known: Collection[str]) -> None:
    """Refuse misspelt names where an author may have others too."""
    for name in names:
        meant = [one for one in known if name not in known and one_letter_off(name, one)]
        if meant:
            raise LaunchError(
                f'{path}{name} is read by nobody; did you mean {path + meant[0]!r}? (A name of your own must differ '
                'from it by more than one letter)'
            )


def _hooks(cfg: Config) -> Iterator[Section]:
    for name, hook in (cfg.get('default_hooks') or {}).items():
        yield from _built(f'default_hooks.{name}', hook, HOOKS, ['priority'])
    for i, hook in enumerate(cfg.get('custom_hooks') or []):
        yield from _built(f'custom_hooks.{i}', hook, HOOKS, ['priority'])


def _loaders(cfg: Config) -> Iterator[Section]:
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        yield Section(name, loader, [*LOADER, *accepted(DataLoader)])
        yield from _built(f'{name}.sampler', loader.get('sampler'), DATA_SAMPLERS)
        yield from _built(f'{name}.batch_sampler', loader.get('batch_sampler'), DATA_SAMPLERS)
        yield from _built(f'{name}.collate_fn', loader.get('collate_fn'), FUNCTIONS)


def _schedule(cfg: Config) -> Iterator[Section]:
    loop = cfg.get('train_cfg') or {}
    if 'type' not in loop:
        kind = 'EpochBasedTrainLoop' if loop.get('by_epoch', True) else 'IterBasedTrainLoop'
        loop = {'type': kind, **loop}
    yield from _built('train_cfg', loop, LOOPS, ['by_epoch'])
    schedulers = cfg.get('param_scheduler') or []
    single = isinstance(schedulers, Mapping)
    for i, scheduler in enumerate([schedulers] if single else schedulers):
        path = 'param_scheduler' if single else f'param_scheduler.{i}'
        yield from _built(path, scheduler, PARAM_SCHEDULERS, ['convert_to_iter_based'])

    wrapper = cfg.get('optim_wrapper') or {}
    for section in _built('optim_wrapper', {'type': 'OptimWrapper', **wrapper}, OPTIM_WRAPPERS):
        # several optimizers stand in it by names of their own
        yield replace(section, known=[*section.known, *WRAPPER], whole=False)
    yield from _built('optim_wrapper.optimizer', wrapper.get('optimizer'), OPTIMIZERS)
    clip = _dict('optim_wrapper.clip_grad', wrapper.get('clip_grad'))
    clips = clip_grad_value_ if clip.get('type') == 'value' else clip_grad_norm_
    yield Section('optim_wrapper.clip_grad', clip, ['type', *accepted(clips)], whole=True)
    path = 'optim_wrapper.paramwise_cfg'
    paramwise = _dict(path, wrapper.get('paramwise_cfg'))
    if 'constructor' not in wrapper:  # others have keys of their own
        yield Section(path, paramwise, list(PARAMWISE))
        path = f'{path}.custom_keys'
        for key, settings in _dict(path, paramwise.get('custom_keys')).items():
            where = f'{path}.{key}'
            yield Section(where, _dict(where, settings), ['lr_mult', 'decay_mult'])


def _dict(path: str, content: Any) -> Mapping[str, Any]:
    """What stands at ``path``; nothing there is an empty dict.

    Raises:
        LaunchError: it is something else.
    """
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise LaunchError(f'{path}={content!r} must be a dict or None')
    return content


def _built(
    path: str, content: Any, registry: Registry, others: Sequence[str] = ()
) -> Iterator[Section]:
    """A part that a registry builds.

    Raises:
        LaunchError: the registry does not know its type.
    """
    if not isinstance(content, Mapping):
        return
    kind = content.get('type')
    if kind is None:
        yield Section(path, content, ['type'])
    if not isinstance(kind, str):
        return
    scoping = registry.switch_scope_and_registry(content.get('_scope_'))
    # MMEngine looks functions up without a scope, and warns of hosts that have no registry of them
    with nullcontext(registry) if registry is FUNCTIONS else scoping as scoped:
        cls = scoped.get(kind)
        if cls is None:
            raise LaunchError(f'{path}.type={kind!r} does not exist{near_name(kind, scoped)}')
    known = ['type', *others, *accepted(cls)]
    yield Section(path, content, known, whole=not takes_others(cls))
