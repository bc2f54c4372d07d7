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

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mmcv.cnn
from mmengine.logging import print_log
from mmengine.registry import MODELS as ROOT
from torch import nn

from surge_mm.errors import UsageError
from surge_mm.layers import BinaryLayer, SurgeConv2d, SurgeLinear
from surge_mm.registry import MODELS

from .rules import BINARY, DEFAULT_RULES, KEEP, Candidate, Rule, decide, parse_rules

BINARY_FORM: dict[type[nn.Module], type[SurgeConv2d] | type[SurgeLinear]] = {
    nn.Conv2d: SurgeConv2d,
    mmcv.cnn.Conv2d: SurgeConv2d,
    nn.Linear: SurgeLinear,
    mmcv.cnn.Linear: SurgeLinear,
}
"""The classes that can become binary: these alone, for a subclass computes something else."""
UNSIGNED = (nn.ReLU, nn.ReLU6)
SIGNED = {'type': 'LeakyReLU', 'negative_slope': 0.25}
"""What stands in for ReLU before binary layers: PReLU as it starts, so no key is added."""


def is_binary(module: nn.Module) -> bool:
    return isinstance(module, BinaryLayer)


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
def Binarized(  # noqa: N802  configs call it as they call the class of a model
    base_type: str,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] | None = {'type': 'surge_mm.SurgeConv2d'},  # noqa: B006
    act_cfg: Mapping[str, Any] | None = SIGNED,
    **kwargs: Any,
) -> nn.Module:
    """Build the model ``base_type`` from the other keys and make it binary.

    Args:
        base_type (str): The model, such as ``'mmdet.FasterRCNN'``.
        rules, binary, act_cfg: As for :func:`binarize`; with ``binary=None`` the model is built and left as it is.
        **kwargs: The keys of the model.

    Raises:
        UsageError: as :func:`binarize`.
    """
    model = ROOT.build({'type': base_type, **kwargs})
    if binary is not None:
        binarize(model, rules, binary, act_cfg)
        for name, part in model.named_modules():
            if getattr(part, 'norm_eval', False) and any(map(is_binary, part.modules())):
                print_log(
                    f'{name or base_type} has norm_eval=True: its batch norms keep the statistics of the '
                    'full-precision network, which are not those of the binary one. Set norm_eval=False',
                    'current',
                    logging.WARNING,
                )
    return model


def binarize(
    model: nn.Module,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] | None = None,
    act_cfg: Mapping[str, Any] | None = SIGNED,
) -> list[Fate]:
    """Replace layers of a live model by binary ones, which take over their parameters (the very tensors).

    Args:
        model (nn.Module): Changed in place; its class and its keys stay.
        rules (Sequence[dict], optional): See :class:`surge_mm.models.rules.Rule`; the first that fits a layer decides,
            then :data:`surge_mm.models.rules.DEFAULT_RULES` do.
        binary (dict, optional): Settings of the binary layers: ``activation``, ``weight``, ``compensator`` and
            ``pad_value`` (of convolutions alone). A ``type`` is left out, for the layer's class gives it.
        act_cfg (dict, optional): What ReLU becomes. Its output is never negative: signs of it are all +1, and a binary
            layer behind it learns nothing. Where the model has a backbone, ReLUs are replaced in those of its parts
            (backbone, neck, ...) that hold a binary layer. Defaults to a leaky ReLU of slope 0.25; None leaves them.

    Returns:
        list[Fate]: What became of each layer with weights.

    Raises:
        UsageError: a rule of no use (see :func:`surge_mm.models.rules.decide`); a layer that cannot be binary, or
            that rules judge differently in its several places; a weight that two layers share; nothing to binarise.
    """
    own = parse_rules(rules)
    places = _candidates(model)
    decisions = decide([one for one, _ in places], [*own, *DEFAULT_RULES], len(own))
    fates: dict[int, Fate] = {}
    plans: dict[int, tuple[Candidate, dict[str, Any]]] = {}
    for one, rule, label in decisions:
        key = id(one.layer)
        before = fates.get(key)
        if before is None:
            fates[key] = Fate(one.name, (one.name,), rule.to != KEEP, label)
            if rule.to != KEEP:
                plans[key] = (one, _settings(one, rule, label, binary))
            continue
        fates[key] = Fate(before.name, (*before.places, one.name), before.binary, before.rule)
        if before.binary != (rule.to != KEEP):
            raise UsageError(
                f'{before.name} and {one.name} are one layer, shared between both places, but {before.rule} and '
                f'{label} judge it differently. Let one rule decide about both'
            )
    if not plans:
        raise UsageError(
            f'no layer of {type(model).__name__} becomes binary: of {len(fates)} layers with weights, the rules keep '
            "all. Add a rule with to='binary', or leave the model as it is"
        )
    _check_shared_weights(model, set(plans))
    made = {key: _make(one, settings) for key, (one, settings) in plans.items()}
    for one, (parent, attribute) in places:
        if id(one.layer) in made:
            parent._modules[attribute] = made[id(one.layer)]
    if act_cfg is not None:
        _replace_activations(model, dict(act_cfg))
    model._surge_fates = list(fates.values())  # type: ignore[assignment]
    return fates_of(model)


def fates_of(model: nn.Module) -> list[Fate]:
    """What :func:`binarize` decided about each layer of ``model``; empty where it was not called."""
    return getattr(model, '_surge_fates', [])


def to_float(model: nn.Module) -> nn.Module:
    """Undo :func:`binarize`: real layers with the parameters of the binary ones, and the ReLUs of before.

    Auxiliary weights, and shifts and gains that binarisers have learned, are dropped. The model is changed in place
    and returned; a model that is a single binary layer gives the new layer.
    """
    if isinstance(model, BinaryLayer):
        return model.to_float()  # type: ignore[operator]
    made: dict[int, nn.Module] = {}
    for module in list(model.modules()):
        for attribute, child in module._modules.items():
            if isinstance(child, BinaryLayer):
                if id(child) not in made:
                    made[id(child)] = child.to_float()  # type: ignore[operator]
                module._modules[attribute] = made[id(child)]
            elif child is not None and (before := getattr(child, '_surge_replaced', None)):
                module._modules[attribute] = before[0]
    vars(model).pop('_surge_fates', None)
    return model


def _candidates(model: nn.Module) -> list[tuple[Candidate, tuple[nn.Module, str]]]:
    """Every place of every layer that holds a matrix of weights, with the module and attribute that hold it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found = []
    for name, module in modules.items():
        weight = getattr(module, 'weight', None)
        if not name or isinstance(module, BinaryLayer) or getattr(weight, 'ndim', 0) < 2:
            continue
        above, _, attribute = name.rpartition('.')
        found.append(
            (Candidate(name, module, _classes_above(name, modules)), (modules[above], attribute))
        )
    return found


def _make(one: Candidate, settings: dict[str, Any]) -> BinaryLayer:
    """The binary form of a layer, with its parameters.

    Raises:
        UsageError: the settings do not suit it.
    """
    try:
        return BINARY_FORM[type(one.layer)].from_float(one.layer, **settings)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise UsageError(f'{one.name}: {error}') from error


def _classes_above(name: str, modules: dict[str, nn.Module]) -> frozenset[str]:
    parts = name.split('.')[:-1]
    above = [modules['.'.join(parts[:i])] for i in range(len(parts) + 1)]
    return frozenset(base.__name__ for module in above for base in type(module).__mro__)


def _settings(
    one: Candidate, rule: Rule, label: str, binary: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The settings of the binary form of a layer.

    Raises:
        UsageError: it has no binary form.
    """
    if type(one.layer) not in BINARY_FORM:
        raise UsageError(
            f'{label} ({rule.conditions()}) makes {one.name} binary, but a {one.type} cannot be: convolutions '
            "(Conv2d) and linear layers (Linear) can. Add type='Conv2d' to the rule, or before it "
            f"dict(name={one.name!r}, to='keep')"
        )
    settings = dict(binary or {})
    settings.update({} if rule.to == BINARY else rule.to)
    settings.pop('type', None)
    if BINARY_FORM[type(one.layer)] is SurgeLinear:
        settings.pop('pad_value', None)
    return settings


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


def _replace_activations(model: nn.Module, act_cfg: dict[str, Any]) -> None:
    """Put a new ``act_cfg`` in the place of each ReLU of the parts that hold a binary layer."""
    made: dict[int, nn.Module] = {}
    for part in _binary_parts(model):
        for module in list(part.modules()):
            for attribute, child in module._modules.items():
                if type(child) in UNSIGNED:
                    if id(child) not in made:
                        made[id(child)] = _signed(child, act_cfg)  # type: ignore[arg-type]
                    module._modules[attribute] = made[id(child)]


def _binary_parts(model: nn.Module) -> Iterator[nn.Module]:
    """The parts of a detector or classifier that hold a binary layer; of a model without a backbone, all of it."""
    parts = list(model.children()) if hasattr(model, 'backbone') else [model]
    return (part for part in parts if any(map(is_binary, part.modules())))


def _signed(relu: nn.ReLU, act_cfg: dict[str, Any]) -> nn.Module:
    cfg = dict(act_cfg)
    if cfg.get('type') in ('LeakyReLU', 'Hardtanh', 'ELU'):
        cfg.setdefault('inplace', False)
    activation = MODELS.build(cfg)
    activation._surge_replaced = (relu,)  # in a tuple, so that it is no submodule
    return activation.train(relu.training)
