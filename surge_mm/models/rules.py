"""Rules that say which layers of a model become binary: by name, class, place and size; the first that fits decides."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from surge_mm.errors import UsageError

KEEP, BINARY = 'keep', 'binary'


@dataclass(frozen=True)
class Candidate:
    """A layer with weights, and where it stands.

    Attributes:
        name: Its dotted name; of a layer that stands in several places, the first one.
        layer: The layer itself.
        inside: The class names of the modules that hold it, at any depth, and of their bases.
    """

    name: str
    layer: nn.Module
    inside: frozenset[str]

    @property
    def type(self) -> str:
        return type(self.layer).__name__

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels; (0, 0) of a layer that has none, as an embedding."""
        for names in (('in_channels', 'out_channels'), ('in_features', 'out_features')):
            if all(hasattr(self.layer, name) for name in names):
                return getattr(self.layer, names[0]), getattr(self.layer, names[1])
        return 0, 0

    @property
    def groups(self) -> int:
        return getattr(self.layer, 'groups', 1)


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
    Rule(BINARY, type='Conv2d', kernel_size=3, why='3x3'),
    Rule(BINARY, type='Linear', min_channels=256, why='large linear'),
    Rule(KEEP, why='no rule for it'),
)
"""What stands after a config's own rules: 3x3 convolutions and large linear layers become binary; the stem, 1x1 and
depthwise convolutions, predictors, and what makes attention weights and offsets stay."""


def parse_rules(rules: Sequence[Mapping[str, Any]] | None) -> list[Rule]:
    """The rules of a config, checked.

    Raises:
        UsageError: a rule that is no dict, has an unknown key, or does not say ``to``.
    """
    parsed = []
    known = [field.name for field in fields(Rule)]
    for i, rule in enumerate(rules or []):
        said = f'rules[{i}]={rule!r}'
        if not isinstance(rule, Mapping):
            raise UsageError(f"{said} must be a dict, such as dict(name='neck.*', to='keep')")
        for key in rule:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f'; did you mean {near[0]!r}?' if near else ''
                raise UsageError(f'{said}: unknown {key!r}{hint} It takes {", ".join(known)}')
        to = rule.get('to')
        if to not in (KEEP, BINARY) and not isinstance(to, Mapping):
            raise UsageError(
                f"{said}: to={to!r} must be 'keep', 'binary' or a dict of settings, such as dict(compensator=None)"
            )
        parsed.append(Rule(**rule))
    return parsed


def decide(
    candidates: Sequence[Candidate], rules: Sequence[Rule], own: int
) -> list[tuple[Candidate, Rule, str]]:
    """What becomes of each layer: the first rule that fits it, and how reports call that rule.

    Args:
        candidates: The layers.
        rules: The rules, of which the last fits every layer.
        own: How many of them, from the beginning, are the config's own.

    Raises:
        UsageError: a rule of the config's own that fits no layer, or that contradicts an earlier one which takes all
            layers that it fits.
    """
    taken = [next(i for i, rule in enumerate(rules) if rule.fits(one)) for one in candidates]
    for i, rule in enumerate(rules[:own]):
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
    labels = [f'rules[{i}]' if i < own else f'default: {rule.why}' for i, rule in enumerate(rules)]
    return [(one, rules[i], labels[i]) for one, i in zip(candidates, taken, strict=True)]


def _near(rule: Rule, candidates: Sequence[Candidate]) -> str:
    """What the layers are called that the author of the rule may have meant."""
    if rule.name is not None and not any(fnmatchcase(one.name, rule.name) for one in candidates):
        names = [one.name for one in candidates]
        near = difflib.get_close_matches(rule.name, names, n=5, cutoff=0.3) or names[:5]
        return f'layers of a similar name: {", ".join(near)}'
    types = sorted({one.type for one in candidates})
    return f'the layers of the model are of the classes {", ".join(types)}'
