"""Binarization of any model by rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from surge_mm.layers import BinaryLayer, SurgeLinear
from surge_mm.models.binarization.layer_candidates import (
    BINARY_FORMS,
    base_class_names,
    class_path,
    find_candidates,
)
from surge_mm.models.binarization.layer_reports import LayerReport, layer_reports
from surge_mm.models.binarization.relu_replacement import DEFAULT_ACT_CFG, relu_replacements
from surge_mm.models.binarization.rules import BINARY, KEEP, Decision, decide, parse_rules
from surge_mm.models.binarization.shortcuts import (
    NEEDS,
    add_shortcuts,
    find_places,
    remove_shortcuts,
)
from surge_mm.models.binarization.to_float import check_not_packed
from surge_mm.models.binarization.twins import find_twins, refresh_averages, warn_of_frozen_copies
from surge_mm.models.binarization.weight_use import check_first_passes
from surge_mm.utils.argument_checks import checked
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn
from surge_mm.utils.modules import replace_modules
from surge_mm.utils.suggestions import did_you_mean

SETTINGS = ('activation', 'weight', 'compensator', 'pad_value')


@checked
def binarize(
    model: nn.Module,
    rules: Sequence[Mapping[str, Any]] | None = None,
    binary: Mapping[str, Any] = {},  # noqa: B006
    binary_act_cfg: Mapping[str, Any] | None = DEFAULT_ACT_CFG,
    structure_only: bool = False,
    shortcuts: bool = False,
) -> list[LayerReport]:
    """Replace layers of ``model`` by binary layers in place.

    The binary layers use the parameters of the layers that they replace as latent weights. The class of the model and
    the keys of its state dict are kept. A binary layer logs a warning if its first input in training has no negative
    element, unless it has a learned shift.

    Binary layers of the model are kept with their settings: those that a config built by ``conv_cfg``, and, with a
    warning, those of an earlier call. A call that would change such layers only is an error.

    The first forward pass of ``model`` in training, and the first in evaluation, raise a ``UsageError`` if a module
    computes with the weight of a binary layer instead of calling the layer.

    Args:
        model (nn.Module): Model to binarize. It is changed in place.
        rules (Sequence[dict], optional): Arguments of each :class:`.rules.Rule`. The first rule that matches a layer
            decides about it. :data:`.rules.DEFAULT_RULES` follow the given ones. Defaults to None.
        binary (dict): Settings of the binary layers: ``activation``, ``weight``, ``compensator`` and ``pad_value``
            (used by convolutions only). A ``type`` is allowed and ignored. Defaults to ``{}``: the defaults of
            :class:`surge_mm.SurgeConv2d`.
        binary_act_cfg (dict, optional): Activation that replaces ReLU. The output of ReLU is never negative, so its
            signs are all +1 and the output of a binary layer behind it does not depend on the input. ReLU is replaced
            in each part of the model (backbone, neck, ...) that contains a layer to binarize; in the whole model if it
            has no backbone; never inside the backbones of this package. None keeps ReLU. Defaults to a leaky ReLU with
            slope 0.25.
        structure_only (bool): Replace the activations only and keep all layers in full precision. The result is the
            full-precision network of the same structure as the binary one. Defaults to False.
        shortcuts (bool): Give each convolution to binarize a shortcut that adds its input to the output of the norm
            behind it. This is done in ``ConvModule`` and ``nn.Sequential``, where the convolution has as many output as
            input channels; an input of a strided convolution is average pooled. It adds no parameter. A rule with
            ``to=dict(shortcuts=False)`` or ``to=dict(shortcuts=True)`` decides otherwise for its layers. Only such a
            rule removes the shortcuts of an earlier call, which :func:`surge_mm.to_float` keeps. Defaults to False.

    Returns:
        list[LayerReport]: The decision about each layer with weights.

    Raises:
        UsageError: if an argument has the wrong type, a rule has no effect (see :func:`.rules.decide`), rules
            contradict each other about a shared layer, a layer to binarize shares its weight with another layer, no
            layer is binarized and none is binary already, the model is packed, an earlier
            call has decided about all layers and this one binarizes none, or shortcuts are asked for and no layer can
            have one.
    """
    check_not_packed(model)
    settings = _without_type('binary', binary)
    twins = find_twins(model)
    candidates = find_candidates(model, twins)
    before = _binarized_before(model)
    try:
        decisions = decide(candidates, parse_rules(rules))
    except UsageError as error:
        if before:
            raise UsageError(f'{error}. {before}') from error
        raise
    by_layer = _decisions_by_layer(decisions)
    selected = {layer: decision for layer, decision in by_layer.items() if decision.to != KEEP}
    if not selected and not any(isinstance(module, BinaryLayer) for module in model.modules()):
        raise UsageError(_nothing_selected(model, decisions))
    if before and not selected and all(hasattr(c.layer, '_surge_rule') for c in candidates):
        raise UsageError(before)
    if before:
        warn(before)
    _check_shared_weights(model, selected)
    places = find_places(
        model, {layer for layer, decision in selected.items() if decision.shortcut(shortcuts)}
    )
    if shortcuts and not places:
        raise UsageError(
            f'shortcuts=True: none of the {len(selected)} layers of {type(model).__name__} to binarize can have a '
            f'shortcut: {NEEDS}. Leave shortcuts out'
        )
    _check_shortcut_rules(selected, places)
    warn_of_frozen_copies(model, selected, twins)
    layers = {layer: _binary_layer(decision, settings) for layer, decision in selected.items()}
    replacements: dict[nn.Module, nn.Module] = {}
    if binary_act_cfg is not None:
        replacements.update(relu_replacements(model, selected, binary_act_cfg))
    if not structure_only:
        replacements.update(layers)
        check_first_passes(model)
    remove_shortcuts(model, {layer for layer, one in selected.items() if not one.shortcut(True)})
    _warn_of_hooks(model, replacements)
    replace_modules(model, replacements)
    add_shortcuts(places)
    refresh_averages(model)
    if any(
        type(m).__module__.startswith('transformers.') or 'PreTrainedModel' in base_class_names(m)
        for m in model.modules()
    ):
        try:
            register_transformers()
        except UsageError as error:
            warn(f'save_pretrained will not store which layers are binary: {error}')
    for layer, decision in by_layer.items():
        rule = 'structure_only=True' if structure_only else decision.rule
        replacements.get(layer, layer)._surge_rule = rule  # type: ignore[assignment]
    return layer_reports(model)


def _warn_of_hooks(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Log a warning that names the modules to replace which have hooks: the new ones do not get them."""
    kinds = ('_forward_pre_hooks', '_forward_hooks', '_backward_pre_hooks', '_backward_hooks')
    hooked = [
        name
        for name, module in model.named_modules()
        if module in replacements and any(getattr(module, kind) for kind in kinds)
    ]
    if hooked:
        warn(
            f'{", ".join(hooked[:5])}{" ..." * (len(hooked) > 5)}: {len(hooked)} of the modules that binarize replaces '
            'have hooks, which the new modules do not get. Register hooks after binarize'
        )


def _check_shortcut_rules(
    selected: Mapping[nn.Module, Decision], places: Mapping[nn.Module, Mapping[str, int]]
) -> None:
    """Raise an error for a rule that asks for shortcuts, but none of its layers can have one."""
    having = {holder._modules[name] for holder, names in places.items() for name in names}
    for rule in dict.fromkeys(decision.rule for decision in selected.values()):
        layers = {layer: one for layer, one in selected.items() if one.rule == rule}
        if all(one.shortcut(False) for one in layers.values()) and not having & layers.keys():
            raise UsageError(
                f'{rule} has shortcuts=True, but none of its {len(layers)} layers can have a shortcut: {NEEDS}. Leave '
                'it out'
            )


def register_transformers() -> None:
    """Let ``from_pretrained`` of Hugging Face transformers load models that were binary when they were saved.

    Call it in a program that loads such a model, before ``from_pretrained``. :func:`binarize` calls it where
    transformers is loaded, so that ``save_pretrained`` writes the binary layers to ``config.json``.

    Raises:
        UsageError: if transformers is not installed, or older than 4.49.
    """
    try:
        import surge_mm.models.binarization.transformers_models  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f'register_transformers needs transformers 4.49 or later ({error}). Run: pip install -U transformers'
        ) from error


def _binarized_before(model: nn.Module) -> str:
    """Return a message about the layers that :func:`binarize` has made binary before, or an empty string."""
    binary = [
        name
        for name, module in model.named_modules()
        if isinstance(module, BinaryLayer) and hasattr(module, '_surge_rule')
    ]
    if not binary:
        return ''
    return (
        f'{type(model).__name__} was binarized before: {len(binary)} of its layers are binary, first {binary[0]!r}, '
        'and binarize does not change them. To change them, build the model again, or call surge_mm.to_float(model), '
        'and call binarize once with all arguments'
    )


def _nothing_selected(model: nn.Module, decisions: Sequence[Decision]) -> str:
    """Return a message with the rules that keep all layers, and a rule for the layers of the commonest kind."""
    if not decisions:
        lazy = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.lazy.LazyModuleMixin)
        ]
        if lazy:
            return f'{lazy[0]} and all other layers of the model are lazy: run the model on a batch before binarize'
        return (
            f'{type(model).__name__} contains no layer with weights, and binarize does not replace the model itself. '
            'Put a layer into an nn.Sequential, or build a surge_mm.SurgeConv2d or SurgeLinear'
        )
    kept = Counter(decision.rule for decision in decisions)
    kinds = Counter(
        (
            c.name.partition('.')[0] + '.*' * ('.' in c.name),
            c.type,
            getattr(c.layer, 'kernel_size', None),
        )
        for c in (decision.candidate for decision in decisions)
        if c.unsupported_reason is None and c.groups == 1
    )
    advice = 'None of them has a binary form; Conv2d and Linear have one'
    for (part, kind, size), _ in kinds.most_common(1):
        sized = f', kernel_size={size}' if size else ''
        rule = f"dict(name='{part}', type='{kind}'{sized}, to='binary')"
        advice = f'Add a rule, such as {rule}, or leave the model as it is'
    return (
        f'no layer of {type(model).__name__} becomes binary: the rules keep all {len(decisions)} layers with weights '
        f'({", ".join(f"{rule}: {count}" for rule, count in kept.most_common())}). {advice}'
    )


def _decisions_by_layer(decisions: Sequence[Decision]) -> dict[nn.Module, Decision]:
    by_layer: dict[nn.Module, Decision] = {}
    for decision in decisions:
        first = by_layer.setdefault(decision.candidate.layer, decision)
        if first.to != decision.to:
            raise UsageError(
                f'{first.candidate.name} and {decision.candidate.name} are one shared layer, but {first.rule} and '
                f'{decision.rule} decide differently about it. Let one rule match both names'
            )
    return by_layer


def _without_type(argument: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if 'type' in settings and class_name(settings['type']) not in ('SurgeConv2d', 'SurgeLinear'):
        raise UsageError(
            f"{argument}: type={settings['type']!r} must be 'surge_mm.SurgeConv2d', or be left out"
        )
    known = SETTINGS if argument == 'binary' else (*SETTINGS, 'shortcuts')
    for key in settings:
        if key not in (*known, 'type'):
            raise UsageError(f'{argument}: unknown setting {key!r}{did_you_mean(str(key), known)}')
    if not isinstance(settings.get('shortcuts', False), bool):
        raise UsageError(f'{argument}: shortcuts={settings["shortcuts"]!r} must be True or False')
    return {key: value for key, value in settings.items() if key != 'type'}


def _binary_layer(decision: Decision, settings: Mapping[str, Any]) -> BinaryLayer:
    """Build the binary form of a layer with its parameters."""
    name, layer = decision.candidate.name, decision.candidate.layer
    overrides = {} if decision.to == BINARY else _without_type(f'{decision.rule}: to', decision.to)
    kwargs = {**settings, **overrides}
    kwargs.pop('shortcuts', None)
    form = BINARY_FORMS[class_path(layer)]
    if form is SurgeLinear:
        kwargs.pop('pad_value', None)
    try:
        binary = form.from_float(layer, **kwargs)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise UsageError(f'{name}: {error}') from error
    binary.warn_as = name
    return binary


def _check_shared_weights(model: nn.Module, selected: Collection[nn.Module]) -> None:
    """Raise an error if a layer to binarize shares its weight with another layer."""
    owners: dict[int, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        weight = module._parameters.get('weight')
        if weight is not None:
            owners[id(weight)].append((name, module))
    for sharing in owners.values():
        if len(sharing) > 1 and any(module in selected for _, module in sharing):
            names = ' and '.join(name for name, _ in sharing)
            raise UsageError(
                f'{names} share one weight, and a rule binarizes one of them. Keep them: '
                "dict(name=..., to='keep')"
            )
