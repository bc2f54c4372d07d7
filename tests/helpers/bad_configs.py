"""Bad settings: each key misspelt, and set to values of another type or out of range.

The keys are those in the signatures of everything that surge_mm registers. A new class needs an entry in
:mod:`bad_values` if it has arguments without defaults, or ranges that its annotations lack.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from helpers.bad_values import GOOD
from mmengine.registry import DefaultScope
from torch import nn

import surge_mm.registry as registries
from surge_mm.models import binarize
from surge_mm.models.binarization.rules import Rule
from surge_mm.ops import ActivationBinarizer, WeightBinarizer
from surge_mm.utils.registry_errors import explain


@registries.MODELS.register_module()
class Net(nn.Sequential):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))


@dataclass(frozen=True)
class Target:
    """A class or dict of surge_mm that is built from keys.

    Attributes:
        name: its name.
        build: builds it from keys.
        good: keys with which it can be built.
        hints: annotation of each key; None for keys of a host.
        instead: good keys to combine with a key that excludes those in ``good``.
    """

    name: str
    build: Callable[..., Any]
    good: dict[str, Any]
    hints: dict[str, Any]
    instead: dict[str, dict[str, Any]] = field(default_factory=dict)
    scope: str = 'mmpretrain'

    def with_key(self, key: str, value: Any) -> dict[str, Any]:
        return {**self.instead.get(key, self.good), key: value}

    def misspelt(self, key: str, wrong: str) -> dict[str, Any]:
        base = dict(self.instead.get(key, self.good))
        return {**base, wrong: base.pop(key, None)}

    def refusal(self, keys: dict[str, Any]) -> str | None:
        """Return the error for ``keys``; None if it is built."""
        try:
            with DefaultScope.overwrite_default_scope(self.scope):
                self.build(**keys)
        except Exception as error:
            return explain(error)
        return None


def targets() -> list[Target]:
    """Return everything that surge_mm registers for configs, and the dicts that it reads."""
    found = []
    # a runner takes whole configs, an optimizer wrapper an optimizer and the settings of MMEngine's
    no_settings = ('whole_batch', 'load_packed', 'SafeRunner', 'CPUAmpOptimWrapper')
    for registry in vars(registries).values():
        if getattr(registry, 'scope', None) == 'surge_mm':
            registry.import_from_location()
            for name, made in registry.module_dict.items():
                ours = made.__module__.startswith('surge_mm')
                if ours and name not in no_settings:
                    found.append(_registered(registry, name, made))
    for family in (ActivationBinarizer, WeightBinarizer):
        for name, cls in family.known.items():
            if cls.__module__.startswith('surge_mm'):
                own = vars(cls).get('__init__')
                hints = _hints(own) if own else {}
                build = _binarizer(family.family, name)
                found.append(Target(name, build, {}, hints))
    return [*found, CONTROLS, COMPENSATOR, RULE, OVERRIDE]


def _registered(registry: Any, name: str, made: Any) -> Target:
    constructor = made.__init__ if isinstance(made, type) else made
    hints: dict[str, Any] = {}
    for base in made.__mro__ if isinstance(made, type) else (made,):
        own = vars(base).get('__init__') if isinstance(base, type) else constructor
        if own is None or base is object:
            continue
        ours = base.__module__.startswith('surge_mm')
        for key, hint in (_hints(own) if ours else dict.fromkeys(_names(own))).items():
            hints.setdefault(key, hint)
        if not _takes_more(own):
            break

    def build(**keys: Any) -> Any:
        return registry.build({'type': f'surge_mm.{name}', **keys})

    scope = 'mmdet' if name in ('FCOSSepBNHead', 'SSDHead', 'DistilledDetector') else 'mmpretrain'
    return Target(name, build, GOOD.get(name, {}), hints, scope=scope)


def _names(function: Any) -> list[str]:
    ordinary = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in ordinary and p.name != 'self']


def _takes_more(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _hints(function: Any) -> dict[str, Any]:
    hints = get_type_hints(function, include_extras=True)
    return {name: hints[name] for name in _names(function)}


def _binarizer(family: str, name: str) -> Callable[..., Any]:
    def build(**keys: Any) -> Any:
        cfg = {
            'type': 'surge_mm.SurgeLinear',
            **GOOD['SurgeLinear'],
            family: {'type': name, **keys},
        }
        return registries.MODELS.build(cfg)

    return build


def _compensated(**keys: Any) -> Any:
    cfg = {'type': 'surge_mm.SurgeConv2d', **GOOD['SurgeConv2d'], 'compensator': keys}
    return registries.MODELS.build(cfg)


def _ruled(**keys: Any) -> Any:
    return binarize(registries.MODELS.build({'type': 'surge_mm.Net'}), [keys])


def _overridden(**keys: Any) -> Any:
    hook = {'type': 'surge_mm.AdaptiveGradientScalerHook', 'custom_keys': {'layer4': keys}}
    return registries.HOOKS.build(hook)


CONTROLS = Target(
    'controls',
    _binarizer('activation', 'STESign'),
    {'window': 'rms'},
    _hints(ActivationBinarizer.control),
)
COMPENSATOR = Target(
    'compensator',
    _compensated,
    {'eta': 0.1},
    {
        'eta': float,
        'scale': float,
        'preserve_norm': bool,
        'init': Literal['copy', 'kaiming'],
        'tied': bool,
        'frozen': bool,
        'dtype': Literal['bfloat16'] | None,
    },
    {'scale': {'scale': 0.1}},
)
RULE = Target('rule', _ruled, {'to': 'binary'}, get_type_hints(Rule, include_extras=True))
OVERRIDE = Target('custom_keys', _overridden, {}, {'eta': float, 'preserve_norm': bool})


def misspellings(word: str, number: int, seed: int) -> list[str]:
    """Return different words with a letter removed, doubled, or swapped with the next."""
    draw = random.Random(f'{word} {seed}')
    found: dict[str, None] = {}
    for _ in range(50 * number):
        at = draw.randrange(len(word))
        spoilt = draw.choice(
            [
                word[:at] + word[at + 1 :],
                word[:at] + word[at] + word[at:],
                word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
            ]
        )
        if spoilt != word and spoilt.isidentifier():
            found[spoilt] = None
    return list(found)[:number]


def misspelt(number: int, seed: int) -> list[tuple[Target, str, str]]:
    """Return targets, their keys and ``number`` misspellings of each, without those that are other keys."""
    return [
        (target, key, wrong)
        for target in targets()
        for key in target.hints
        for wrong in misspellings(key, number, seed)
        if wrong not in (*target.hints, 'type')
    ]


def spoilt(values: Callable[[str, str, Any], list[Any]]) -> list[tuple[Target, str, Any]]:
    """Return targets, their keys and wrong ``values`` of each."""
    return [
        (target, key, value)
        for target in targets()
        for key, hint in target.hints.items()
        for value in values(target.name, key, hint)
    ]
