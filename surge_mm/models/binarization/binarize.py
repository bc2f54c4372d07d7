"""Any model of the hosts, made binary by rules, and back.

In a config, the model keeps its keys where they are, and what is binary is said beside them::

    model = dict(
        type='surge_mm.Binarized',
        base_type='mmdet.FasterRCNN',
        rules=[dict(name='neck.*', to='keep')],
        backbone=..., neck=..., rpn_head=..., roi_head=...)

The result is the host's own detector or classifier, of the same class and with the same keys but for what binary layers
add (``aux_weight``, and what some binarisers learn).
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS as ROOT
from torch import nn

from surge_mm.checkpoint.matching import require_whole_parts
from surge_mm.layers import BinaryLayer, SurgeLinear
from surge_mm.models.backbones.base import SurgeBackbone
from surge_mm.models.binarization.layer_candidates import BINARY_FORM, find_candidates
from surge_mm.models.binarization.rules import BINARY, KEEP, Decision, decide, parse_rules
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import checked
from surge_mm.utils.errors import UsageError

LAYERS = ('SurgeConv2d', 'SurgeLinear')
UNSIGNED = (nn.ReLU, nn.ReLU6)
SIGNED = {'type': 'LeakyReLU', 'negative_slope': 0.25}
"""What stands in for ReLU before binary layers: PReLU as it starts, so no key is added."""


@dataclass(frozen=True)
class Fate:
    """What became of a layer.

    Attributes:
        name (str): Its dotted name.
        places (tuple[str, ...]): All its names, where it stands in several places.
        binary (bool): Whether it is binary now.
        rule (str): Which rule decided.
    """

    name: str
    places: tuple[str, ...]
    binary: bool
    rule: str


@MODELS.register_module()
@checked
def Binarized(  # noqa: N802  configs call it as they call the class of a model
    base_type: str | type,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] | None = {},  # noqa: B006
    binary_act_cfg: Mapping[str, Any] | None = SIGNED,
    **kwargs: Any,
) -> nn.Module:
    """Build the model ``base_type`` from the other keys and make it binary.

    Args:
        base_type (str): The model, such as ``'mmdet.FasterRCNN'``.
        rules, binary, binary_act_cfg: As for :func:`binarize`.
        **kwargs: The keys of the model.

    Raises:
        UsageError: as :func:`binarize`.
    """
    model = ROOT.build({'type': base_type, **kwargs})
    binarize(model, rules, binary, binary_act_cfg)
    require_whole_parts(model)
    for name, part in model.named_modules():
        if getattr(part, 'norm_eval', False) and _holds_binary(part):
            print_log(
                f'{name or base_type} has norm_eval=True: its batch norms keep the statistics of the full-precision '
                'network, which are not those of the binary one. Set norm_eval=False',
                'current',
                logging.WARNING,
            )
    return model


def binarize(
    model: nn.Module,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] | None = {},  # noqa: B006
    binary_act_cfg: Mapping[str, Any] | None = SIGNED,
) -> list[Fate]:
    """Replace layers of a live model by binary ones, which take over their parameters (the very tensors).

    Args:
        model (nn.Module): Changed in place; its class and its keys stay.
        rules (Sequence[dict], optional): See :class:`.rules.Rule`; the first that fits a layer decides,
            then :data:`.rules.DEFAULT_RULES` do.
        binary (dict, optional): Settings of the binary layers: ``activation``, ``weight``, ``compensator`` and
            ``pad_value`` (of convolutions alone); a ``type`` is that of either layer and is not needed. None keeps
            every layer real and replaces the activations alone: the full-precision network of the same structure.
        binary_act_cfg (dict, optional): What ReLU becomes. Its output is never negative: signs of it are all +1, and a
            binary layer behind it learns nothing. ReLUs are replaced in those parts of the model (backbone, neck, ...)
            that hold a layer to become binary; in a model without a backbone, everywhere; never in backbones of ours.
            Defaults to a leaky ReLU of slope 0.25; None leaves them. A binary layer whose first input in training is
            not negative anywhere says so in the log.

    Returns:
        list[Fate]: What became of each layer with weights.

    Raises:
        UsageError: settings of the wrong kind; a rule of no use (see :func:`.rules.decide`); a layer
            that rules judge differently in its several places; a weight that two layers share; nothing to binarise.
    """
    own = parse_rules(rules)
    common = _check_settings('binary', {} if binary is None else binary)
    places = find_candidates(model)
    decisions = decide([one for one, _, _ in places], own)
    chosen = _one_decision_a_layer(decisions)
    to_become = {key: decision for key, decision in chosen.items() if decision.to != KEEP}
    if not to_become:
        raise UsageError(
            f'no layer of {type(model).__name__} becomes binary: of {len(chosen)} layers with weights, the rules keep '
            "all. Add a rule with to='binary', or leave the model as it is"
        )
    _check_shared_weights(model, set(to_become))
    made = {key: _make(decision, common) for key, decision in to_become.items()}
    activation = None if binary_act_cfg is None else _build_activation(binary_act_cfg)

    for part in _parts(model):
        if activation is not None and any(id(module) in made for module in part.modules()):
            _replace_activations(part, activation)
    for decision, (one, parent, attribute) in zip(decisions, places, strict=True):
        key = id(one.layer)
        if key in made and binary is not None:
            parent._modules[attribute] = made[key]
        parent._modules[attribute]._surge_rule = (  # type: ignore[union-attr]
            decision.rule if binary is not None else 'binary=None'
        )
    return fates_of(model)


def fates_of(model: nn.Module) -> list[Fate]:
    """What :func:`binarize` decided about each layer of ``model`` and of its parts; empty where it was not called."""
    found: dict[int, Fate] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        rule = getattr(module, '_surge_rule', None)
        if rule is not None:
            before = found.get(id(module), Fate(name, (), isinstance(module, BinaryLayer), rule))
            found[id(module)] = Fate(before.name, (*before.places, name), before.binary, rule)
    return list(found.values())


def to_float(model: nn.Module) -> nn.Module:
    """Make every binary layer of ``model`` real, with the very parameters of it, and put back the ReLUs of before.

    Auxiliary weights, and shifts and gains that binarisers have learned, are dropped. The model is changed in place
    and returned; a model that is a single binary layer gives the new layer.
    """
    if isinstance(model, BinaryLayer):
        return model.to_float()  # type: ignore[operator]
    made: dict[int, nn.Module] = {}
    for module in list(model.modules()):
        vars(module).pop('_surge_rule', None)
        for attribute, child in module._modules.items():
            if isinstance(child, BinaryLayer):
                if id(child) not in made:
                    made[id(child)] = child.to_float()  # type: ignore[operator]
                module._modules[attribute] = made[id(child)]
            elif child is not None and (before := getattr(child, '_surge_replaced', None)):
                module._modules[attribute] = before[0]
    return model


def _one_decision_a_layer(decisions: Sequence[Decision]) -> dict[int, Decision]:
    """By the identity of the layer.

    Raises:
        UsageError: two decisions about one layer differ.
    """
    chosen: dict[int, Decision] = {}
    for decision in decisions:
        before = chosen.setdefault(id(decision.one.layer), decision)
        if before.to != decision.to:
            raise UsageError(
                f'{before.one.name} and {decision.one.name} are one layer, shared between both places, but '
                f'{before.rule} and {decision.rule} judge it differently. Let one rule decide about both'
            )
    return chosen


def _check_settings(said: str, settings: Any) -> dict[str, Any]:
    """Settings of binary layers without their type.

    Raises:
        UsageError: no dict, or the type of something else.
    """
    if not isinstance(settings, Mapping):
        raise UsageError(
            f'{said}={settings!r} must be a dict of settings, such as dict(compensator=None)'
        )
    kind = settings.get('type')
    if kind not in (None, *(f'{scope}{cls}' for scope in ('', 'surge_mm.') for cls in LAYERS)):
        raise UsageError(f"{said}: type={kind!r} must be 'surge_mm.SurgeConv2d', or be left out")
    return {key: value for key, value in settings.items() if key != 'type'}


def _make(decision: Decision, common: dict[str, Any]) -> BinaryLayer:
    """The binary form of a layer, with its parameters.

    Raises:
        UsageError: the settings do not suit it.
    """
    one = decision.one
    own = {} if decision.to == BINARY else _check_settings(f'{decision.rule}: to', decision.to)
    settings = {**common, **own}
    form = BINARY_FORM[type(one.layer)]
    if form is SurgeLinear:
        settings.pop('pad_value', None)
    try:
        layer = form.from_float(one.layer, **settings)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise UsageError(f'{one.name}: {error}') from error
    layer.warn_as = one.name
    return layer


def _check_shared_weights(model: nn.Module, binary: set[int]) -> None:
    """Refuse a weight that a layer to become binary shares with another layer."""
    holders: dict[int, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        weight = module._parameters.get('weight')
        if weight is not None:
            holders[id(weight)].append((name, module))
    for holding in holders.values():
        if len(holding) > 1 and any(id(module) in binary for _, module in holding):
            names = ' and '.join(name for name, _ in holding)
            raise UsageError(
                f"{names} share one weight, and a rule makes one of them binary. Keep them: dict(name=..., to='keep')"
            )


def _parts(model: nn.Module) -> list[nn.Module]:
    """The parts of a detector or classifier; a model without a backbone is one part."""
    return list(model.children()) if hasattr(model, 'backbone') else [model]


def _holds_binary(module: nn.Module) -> bool:
    return any(isinstance(inner, BinaryLayer) for inner in module.modules())


def _build_activation(act_cfg: Any) -> nn.Module:
    """The activation that stands in for ReLU, to be copied.

    Raises:
        UsageError: it cannot be built.
    """
    try:
        return MODELS.build(dict(act_cfg))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f'binary_act_cfg={act_cfg!r} must be an activation that needs no number of channels, such as '
            f"dict(type='PReLU'), or None: {error}"
        ) from error


def _replace_activations(part: nn.Module, activation: nn.Module) -> None:
    """Put a copy of ``activation`` in the place of each ReLU, on the device and in the dtype of the part."""
    like = next((p for p in part.parameters() if p.is_floating_point()), None)
    ours = {
        id(inner) for m in part.modules() if isinstance(m, SurgeBackbone) for inner in m.modules()
    }
    made: dict[int, nn.Module] = {}
    for module in list(part.modules()):
        for attribute, child in module._modules.items():
            if type(child) not in UNSIGNED or id(child) in ours:
                continue
            if id(child) not in made:
                new = copy.deepcopy(activation).train(child.training)  # type: ignore[union-attr]
                new = new if like is None else new.to(like)
                new._surge_replaced = (child,)  # type: ignore[assignment]  # in a tuple: no submodule
                made[id(child)] = new
            module._modules[attribute] = made[id(child)]
