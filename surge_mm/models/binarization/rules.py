"""Rules that say which layers of a model become binary: by name, class, place and size; the first that fits decides."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from surge_mm.models.binarization.layer_candidates import Candidate
from surge_mm.utils.argument_checks import did_you_mean
from surge_mm.utils.errors import UsageError

KEEP, BINARY = 'keep', 'binary'


@dataclass(frozen=True)
class Rule:
    """What a layer must be for this rule to decide about it, and what it then becomes. A key left out fits any layer.

    Attributes:
        to: ``'keep'``, ``'binary'``, or a dict of settings of the binary layer that differ from the model's.
        name: Glob pattern of the dotted name: ``'neck.*'``, ``'*.conv1'``.
        type: Class of the layer: ``'Conv2d'``, ``'Linear'``.
        inside: Class of a module that holds it, at any depth: ``'ConvModule'``, ``'FPN'``; subclasses count.
        kernel_size: Of a square kernel, or as the layer has it.
        max_in_channels: At most so many input channels.
        min_channels: At least so many input and output channels.
        grouped: Whether it has more than one group, as depthwise convolutions have.
        frozen: Whether its weight does not learn.
        why: Shown in reports.
    """

    to: Any
    name: str | None = None
    type: str | None = None
    inside: str | None = None
    kernel_size: int | tuple[int, int] | None = None
    max_in_channels: int | None = None
    min_channels: int | None = None
    grouped: bool | None = None
    frozen: bool | None = None
    why: str = ''

    def fits(self, one: Candidate) -> bool:
        """Whether this rule speaks of the layer."""
        kernel = getattr(one.layer, 'kernel_size', None)
        asked = self.kernel_size
        square = (asked, asked) if isinstance(asked, int) else asked
        return (
            (self.name is None or fnmatchcase(one.name, self.name))
            and (self.type is None or self.type == one.type)
            and (self.inside is None or self.inside in one.inside)
            and (square is None or kernel == tuple(square))
            and (self.max_in_channels is None or 0 < one.channels[0] <= self.max_in_channels)
            and (self.min_channels is None or min(one.channels) >= self.min_channels)
            and (self.grouped is None or (one.groups > 1) == self.grouped)
            and (self.frozen is None or one.frozen == self.frozen)
        )

    def conditions(self) -> str:
        """The keys that were given, as a config has them."""
        given = [
            f'{field.name}={getattr(self, field.name)!r}'
            for field in fields(self)
            if field.name not in ('to', 'why') and getattr(self, field.name) is not None
        ]
        return ', '.join(given) or 'every layer'


DEFAULT_RULES = (
    Rule(KEEP, inside='SurgeBackbone', why='the backbone itself decides'),
    Rule(KEEP, frozen=True, why='frozen'),
    Rule(KEEP, max_in_channels=4, why='stem'),
    Rule(KEEP, name='*stem*', why='stem'),
    Rule(KEEP, grouped=True, why='depthwise or grouped'),
    Rule(KEEP, kernel_size=1, why='1x1'),
    Rule(KEEP, name='*offset*', why='offsets'),
    Rule(KEEP, name='*attention_weights*', why='attention weights'),
    Rule(BINARY, name='*head*.rpn_conv', type='Conv2d', kernel_size=3, why='3x3 of the RPN'),
    Rule(BINARY, name='*head*_fcs.*', type='Linear', min_channels=256, why='large linear'),
    Rule(BINARY, name='*head*', type='Conv2d', inside='ConvModule', kernel_size=3, why='tower'),
    Rule(KEEP, name='*head*', why='predictor'),
    Rule(KEEP, name='fc', why='predictor'),
    Rule(KEEP, name='*.fc', why='predictor'),
    Rule(KEEP, name='*classifier*', why='predictor'),
    Rule(BINARY, type='Conv2d', kernel_size=3, why='3x3'),
    Rule(BINARY, type='Linear', min_channels=256, why='large linear'),
    Rule(KEEP, why='no rule for it'),
)
"""What stands after a config's own rules: 3x3 convolutions and large linear layers become binary; the stem, frozen
layers, 1x1 and depthwise convolutions, predictors, and what makes attention weights and offsets stay. A layer that
cannot be binary stays whatever they say."""


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    'name': (lambda v: isinstance(v, str), "a pattern such as 'neck.*'"),
    'type': (lambda v: isinstance(v, str), "the name of a class such as 'Conv2d'"),
    'inside': (lambda v: isinstance(v, str), "the name of a class such as 'FPN'"),
    'kernel_size': (
        lambda v: (
            _whole(v) or (isinstance(v, (tuple, list)) and len(v) == 2 and all(map(_whole, v)))
        ),
        'a whole number or a pair of them',
    ),
    'max_in_channels': (_whole, 'a whole number of at least 1'),
    'min_channels': (_whole, 'a whole number of at least 1'),
    'grouped': (lambda v: isinstance(v, bool), 'True or False'),
    'frozen': (lambda v: isinstance(v, bool), 'True or False'),
    'why': (lambda v: isinstance(v, str), 'a string'),
    'to': (
        lambda v: v in (KEEP, BINARY) or isinstance(v, Mapping),
        "'keep', 'binary' or a dict of settings, such as dict(compensator=None)",
    ),
}
"""What the values of a rule must be, in a check and in words."""


def parse_rules(rules: Sequence[Mapping[str, Any]] | None) -> list[Rule]:
    """The rules of a config, checked.

    Raises:
        UsageError: a rule that is no dict, has an unknown key or a value of the wrong kind, or does not say ``to``.
    """
    if rules is not None and not isinstance(rules, (list, tuple)):
        raise UsageError(
            f"rules={rules!r} must be a list, such as [dict(name='neck.*', to='keep')]"
        )
    parsed = []
    for i, rule in enumerate(rules or []):
        said = f'rules[{i}]={rule!r}'
        if not isinstance(rule, Mapping):
            raise UsageError(f"{said} must be a dict, such as dict(name='neck.*', to='keep')")
        for key in rule:
            if key not in VALUES:
                raise UsageError(f'{said}: unknown {key!r}{did_you_mean(str(key), VALUES)}')
        for key, value in {'to': None, **rule}.items():
            check, words = VALUES[key]
            if not check(value):
                raise UsageError(f'{said}: {key}={value!r} must be {words}')
        parsed.append(Rule(**rule))
    return parsed


@dataclass(frozen=True)
class Decision:
    """What becomes of a layer: ``to`` as a rule has it, and by which rule."""

    one: Candidate
    to: Any
    rule: str


def decide(candidates: Sequence[Candidate], own: Sequence[Rule]) -> list[Decision]:
    """What becomes of each layer by the first rule that fits it: one of ``own``, else of :data:`DEFAULT_RULES`.

    Raises:
        UsageError: one of ``own`` fits no layer, contradicts an earlier one which takes all layers that it fits, or
            makes a layer binary that cannot be.
    """
    rules = [*own, *DEFAULT_RULES]
    taken = [next(i for i, rule in enumerate(rules) if rule.fits(one)) for one in candidates]
    for i, rule in enumerate(own):
        fitting = [j for j, one in enumerate(candidates) if rule.fits(one)]
        if not fitting:
            raise UsageError(
                f'rules[{i}] ({rule.conditions()}) fits no layer of the model; {_near(rule, candidates)}'
            )
        others = {taken[j] for j in fitting} - {i}
        if all(taken[j] != i for j in fitting) and any(rules[k].to != rule.to for k in others):
            before = ', '.join(f'rules[{k}] ({rules[k].conditions()})' for k in sorted(others))
            raise UsageError(
                f'rules[{i}] ({rule.conditions()}) never decides: every layer that it fits is taken by {before}, which '
                'says otherwise. The first rule that fits decides: put the narrower rule first'
            )
    return [
        _decision(one, rules[i], f'rules[{i}]' if i < len(own) else f'default: {rules[i].why}')
        for one, i in zip(candidates, taken, strict=True)
    ]


def _decision(one: Candidate, rule: Rule, label: str) -> Decision:
    if rule.to == KEEP or not one.hindrance:
        return Decision(one, rule.to, label)
    if label.startswith('default'):
        return Decision(one, KEEP, f'default: {one.hindrance}')
    raise UsageError(
        f'{label} ({rule.conditions()}) makes {one.name} binary, which cannot be: {one.hindrance}. Narrow the rule, '
        f"for instance by type='Conv2d', or put dict(name={one.name!r}, to='keep') before it"
    )


def _near(rule: Rule, candidates: Sequence[Candidate]) -> str:
    """What the layers are called that the author of the rule may have meant."""
    if rule.name is not None and not any(fnmatchcase(one.name, rule.name) for one in candidates):
        names = [one.name for one in candidates]
        near = difflib.get_close_matches(rule.name, names, n=5, cutoff=0.3) or names[:5]
        return f'layers of a similar name: {", ".join(near)}'
    types = sorted({one.type for one in candidates})
    return f'the layers of the model are of the classes {", ".join(types)}'
