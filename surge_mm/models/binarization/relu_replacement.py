"""Activations in place of ReLU, whose outputs are never negative, before binary layers."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.errors import UsageError

RELU_TYPES = (nn.ReLU, nn.ReLU6)
DEFAULT_ACT_CFG = {'type': 'LeakyReLU', 'negative_slope': 0.25}
"""Replacement of ReLU: PReLU at its initial slope, which adds no parameter and hence no key to the state dict."""


def build_relu_replacement(act_cfg: Mapping[str, Any]) -> nn.Module:
    """Build the activation that replaces ReLU.

    Args:
        act_cfg (dict): Class name under ``type``, of :mod:`torch.nn` or of MMEngine's model registry, and the arguments
            of the class.

    Returns:
        nn.Module: The activation.

    Raises:
        UsageError: if the activation cannot be built.
    """
    kwargs = dict(act_cfg)
    try:
        name = kwargs['type']
        if name in nn.modules.activation.__all__:
            kwargs.pop('type')
            return getattr(nn, name)(**kwargs)
        from surge_mm.registry import MODELS

        return MODELS.build(kwargs)
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f'binary_act_cfg={act_cfg!r} must be an activation that needs no number of channels, such as '
            f"dict(type='PReLU'), or None: {error}"
        ) from error


def relu_replacements(
    model: nn.Module, selected: Collection[nn.Module], act_cfg: Mapping[str, Any]
) -> dict[nn.Module, nn.Module]:
    """Return an activation for each ReLU to replace, with the device and dtype of its part of the model.

    Args:
        model (nn.Module): The whole model. With a ``backbone``, only its parts with a layer to binarize are changed.
        selected (Collection[nn.Module]): The layers to binarize.
        act_cfg (dict): As for :func:`build_relu_replacement`.

    Returns:
        dict[nn.Module, nn.Module]: The new activation of each ReLU, which it holds so that it can be restored.
    """
    activation = build_relu_replacement(act_cfg)
    parts = list(model.children()) if hasattr(model, 'backbone') else [model]
    replacements: dict[nn.Module, nn.Module] = {}
    for part in parts:
        modules = set(part.modules())
        if modules.isdisjoint(selected):
            continue
        for module in part.modules():
            if 'SurgeBackbone' in base_class_names(module):
                modules.difference_update(module.modules())
        like = next((p for p in part.parameters() if p.is_floating_point()), None)
        for relu in modules:
            if type(relu) in RELU_TYPES and relu not in replacements:
                new = copy.deepcopy(activation).train(relu.training)
                new = new if like is None else new.to(like)
                # a tuple registers no submodule
                new._surge_replaced, new._surge_act_cfg = (relu,), act_cfg  # type: ignore[assignment]
                replacements[relu] = new
    return replacements
