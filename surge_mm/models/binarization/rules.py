"""Rules that select the layers of a model to binarize, by name, class, ancestors and size. The first match decides."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from surge_mm.models.binarization.layer_candidates import Candidate
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.suggestions import did_you_mean

KEEP: Literal['keep'] = 'keep'
BINARY: Literal['binary'] = 'binary'


@checked
@dataclass(frozen=True)
class Rule:
    """Conditions on a layer, and the decision about layers that meet all of them. None means no condition.

    Args:
        to (str or dict): ``'keep'``, ``'binary'``, or settings of the binary layer that override those of the model.
            Among them, ``shortcuts`` (bool) overrides the argument of :func:`surge_mm.binarize`.
        name (str, optional): Glob pattern of the dotted name, such as ``'neck.*'`` or ``'*.conv1'``.
        type (str, optional): Class of the layer, such as ``'Conv2d'`` or ``'Linear'``, or the class itself.
        inside (str, optional): Class of a module that contains the layer at any depth, such as ``'ConvModule'`` or
            ``'FPN'``, or the class itself. Subclasses match too.
        kernel_size (int or tuple[int, int], optional): Size of the kernel; an int for a square one.
        max_in_channels (int, optional): Maximum number of input channels.
        min_channels (int, optional): Minimum number of input channels and of output channels.
        grouped (bool, optional): Whether the layer has more than one group, as a depthwise convolution.
        frozen (bool, optional): Whether the weight is not trained.
        why (str): Reason to show in reports. Defaults to ``''``.

    Raises:
        UsageError: if a value has the wrong type or is out of range.
    """

    to: Literal['keep', 'binary'] | dict[str, Any]
    name: str | None = None
    type: str | None = None
    inside: str | None = None
    kernel_size: Positive | tuple[Positive, Positive] | None = None
    max_in_channels: Positive | None = None
    min_channels: Positive | None = None
    grouped: bool | None = None
    frozen: bool | None = None
    why: str = ''

    def matches(self, candidate: Candidate) -> bool:
        """Return whether ``candidate`` meets all conditions."""
        kernel_size = self.kernel_size
        if isinstance(kernel_size, int):
            kernel_size = (kernel_size, kernel_size)
        return (
            (self.name is None or fnmatchcase(candidate.name, self.name))
            and (self.type is None or self.type == candidate.type)
            and (self.inside is None or self.inside in candidate.inside)
            and (
                kernel_size is None
                or getattr(candidate.layer, 'kernel_size', None) == tuple(kernel_size)
            )
            and (self.max_in_channels is None or 0 < candidate.channels[0] <= self.max_in_channels)
            and (self.min_channels is None or min(candidate.channels) >= self.min_channels)
            and (self.grouped is None or (candidate.groups > 1) == self.grouped)
            and (self.frozen is None or candidate.frozen == self.frozen)
        )

    def conditions(self) -> str:
        """Return the conditions as they are written in a config."""
        given = [
            f'{field.name}={getattr(self, field.name)!r}'
            for field in fields(self)
            if field.name not in ('to', 'why') and getattr(self, field.name) is not None
        ]
        return ', '.join(given) or 'every layer'


DEFAULT_RULES = (
    Rule(KEEP, inside='SurgeBackbone', why='built by the backbone'),
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
"""Rules that follow those of the config. They binarize 3x3 convolutions and large linear layers, and keep the stem,
frozen layers, 1x1 and depthwise convolutions, predictors, and layers that compute offsets or attention weights. A layer
that cannot be binary is kept in any case."""


def parse_rules(rules: Sequence[Mapping[str, Any]] | None) -> list[Rule]:
    """Convert the rules of a config.

    Args:
        rules (Sequence[dict], optional): Keyword arguments of each :class:`Rule`.

    Returns:
        list[Rule]: The rules, in the same order.

    Raises:
        UsageError: if a rule has an unknown key, a value of the wrong type, or no key ``to``.
    """
    names = [field.name for field in fields(Rule)]
    parsed = []
    for i, rule in enumerate(rules or []):
        for key in rule:
            if key not in names:
                raise UsageError(
                    f'rules[{i}]={rule!r}: unknown key {key!r}{did_you_mean(str(key), names)}'
                )
        named = {
            key: getattr(rule[key], '__name__', rule[key])
            for key in ('type', 'inside')
            if key in rule
        }
        try:
            parsed.append(Rule(**{'to': None, **rule, **named}))
        except UsageError as error:
            raise UsageError(f'rules[{i}]={rule!r}: {error}') from error
    return parsed


@dataclass(frozen=True)
class Decision:
    """The decision about a layer.

    Attributes:
        candidate (Candidate): The layer.
        to (str or dict): As in :class:`Rule`.
        rule (str): Rule that decided, such as ``'rules[0]'`` or ``'default: stem'``.
    """

    candidate: Candidate
    to: Any
    rule: str

    def shortcut(self, default: bool) -> bool:
        """Return whether the layer shall have a shortcut."""
        return self.to.get('shortcuts', default) if isinstance(self.to, Mapping) else default


def decide(candidates: Sequence[Candidate], rules: Sequence[Rule]) -> list[Decision]:
    """Decide about each layer by the first rule that matches it.

    Args:
        candidates (Sequence[Candidate]): Layers of the model.
        rules (Sequence[Rule]): Rules of the config. :data:`DEFAULT_RULES` follow them.

    Returns:
        list[Decision]: One decision for each of ``candidates``.

    Raises:
        UsageError: if one of ``rules`` matches no layer, contradicts earlier rules that match all its layers,
            binarizes a layer that cannot be binary, or decides about a layer otherwise than about the one that it
            follows.
    """
    all_rules = [*rules, *DEFAULT_RULES]
    chosen = [
        next(i for i, rule in enumerate(all_rules) if rule.matches(candidate))
        for candidate in candidates
    ]
    for i, rule in enumerate(rules):
        matching = [j for j, candidate in enumerate(candidates) if rule.matches(candidate)]
        if not matching:
            raise UsageError(
                f'rules[{i}] ({rule.conditions()}) matches no layer of the model; {_similar(rule, candidates)}'
            )
        earlier = {chosen[j] for j in matching}
        if i not in earlier and any(rules[k].to != rule.to for k in earlier):
            listed = ', '.join(f'rules[{k}] ({rules[k].conditions()})' for k in sorted(earlier))
            raise UsageError(
                f'rules[{i}] ({rule.conditions()}) never decides: every layer that it matches is decided by {listed}, '
                'with another result. The first match decides: put the narrower rule first'
            )
    decisions = []
    for candidate, i in zip(candidates, chosen, strict=True):
        to, reason = all_rules[i].to, candidate.unsupported_reason
        label = f'rules[{i}]' if i < len(rules) else f'default: {all_rules[i].why}'
        if to != KEEP and reason is not None:
            if i < len(rules):
                raise UsageError(
                    f'{label} ({rules[i].conditions()}) binarizes {candidate.name}, which cannot be binary: {reason}. '
                    "Narrow the rule, for instance by type='Conv2d', or put "
                    f"dict(name={candidate.name!r}, to='keep') before it"
                )
            to, label = KEEP, f'default: {reason}'
        decisions.append(Decision(candidate, to, label))
    by_layer = {decision.candidate.layer: decision for decision in decisions}
    return [_like_source(decision, by_layer) for decision in decisions]


def _like_source(decision: Decision, by_layer: Mapping[Any, Decision]) -> Decision:
    """Return the decision about the layer that this one follows, if it follows one."""
    source = by_layer.get(decision.candidate.source)
    if source is None or source.to == decision.to:
        return decision
    if not decision.rule.startswith('default'):
        raise UsageError(
            f'the weights of {decision.candidate.name} follow those of {source.candidate.name}, but {decision.rule} '
            f'and {source.rule} decide differently about them. Let one rule match both names'
        )
    return Decision(decision.candidate, source.to, source.rule)


def _similar(rule: Rule, candidates: Sequence[Candidate]) -> str:
    """Return a hint at layers that the author of the rule may have meant."""
    names = [candidate.name for candidate in candidates]
    if rule.name is not None and not any(fnmatchcase(name, rule.name) for name in names):
        similar = difflib.get_close_matches(rule.name, names, n=5, cutoff=0.3) or names[:5]
        return f'layers with similar names: {", ".join(similar)}'
    types = sorted({candidate.type for candidate in candidates})
    return f'the classes of its layers are {", ".join(types)}'
