r"""The slope of the true loss along the gradients of a binary layer, by line probes.

Along d = g_b and d = g_a, the finite difference of the loss L where one call of a layer has another input x, against
the derivative that the path itself predicts::

    true      = (L(x + h d/||d||) - L(x - h d/||d||)) / (2h),        h = step ||x||
    predicted = <d, d/||d||> = ||d||

L is piecewise constant in the binarized x, so a derivative exists over steps alone that change many signs. Shortcuts
and other layers keep their x. All runs have the same random numbers.

The two true slopes, s_b and s_a, are those of one vector in the plane of g_b and g_a. With c = cos(g_b, g_a), SURGE has
the direction of this vector for::

    eta = (s_a - c s_b) / (s_b - c s_a)

It is that of STE for 0. Below 0, the branch turns the gradient away from it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.analysis.gradients.losses import losses_of_step
from surge_mm.ops.gradient_scale import norm
from surge_mm.utils.errors import UsageError

Slopes = dict[str, float | None]


def check_probe(probe: float | None) -> None:
    """Check the step of the probe.

    Raises:
        UsageError: if ``probe`` is neither None nor a finite number above 0.
    """
    if probe is not None and not 0 < probe < math.inf:
        raise UsageError(
            f'probe={probe!r} must be a finite number above 0, the step relative to the norm of the input of a layer, '
            'such as 0.1, or left out'
        )


def probe_call(
    model: nn.Module, data_batch: Any, layer: nn.Module, call: int, direction: Tensor, h: float
) -> Slopes | None:
    """Return the slopes of the loss along a direction at the input of a call; the module has the formulas.

    Args:
        model (nn.Module): Model in training mode.
        data_batch (Any): Batch of the training data.
        layer (nn.Module): The layer.
        call (int): Number of its calls before the one whose input is moved.
        direction (Tensor): d, of the shape of the input.
        h (float): Length of the step.

    Returns:
        dict | None: ``true`` and ``predicted``; None if d or h is zero or not finite.
    """
    length = norm(direction)
    if not 0 < length < math.inf or not 0 < h < math.inf:
        return None
    offset = direction * (h / length)
    after, before = (_loss(model, data_batch, layer, call, o) for o in (offset, -offset))
    return {'true': finite((after - before) / (2 * h)), 'predicted': finite(length)}


def best_eta(slopes: Mapping[str, Slopes | None], directions: Mapping[str, Tensor]) -> float | None:
    """Return the eta whose direction has the true slopes; the module has the formula.

    Args:
        slopes (dict): What :func:`probe_call` returned for ``g_b`` and ``g_a``.
        directions (dict): These directions.

    Returns:
        float | None: None without one of the slopes, for parallel directions, and where the vector of these slopes has
        no positive part along g_b.
    """
    s_b, s_a = ((slopes.get(name) or {}).get('true') for name in ('g_b', 'g_a'))
    if s_b is None or s_a is None:
        return None
    g_b, g_a = (directions[name].double().flatten() for name in ('g_b', 'g_a'))
    c = float(torch.cosine_similarity(g_b, g_a, dim=0))
    part_b, part_a = s_b - c * s_a, s_a - c * s_b
    return finite(part_a / part_b) if part_b > 0 and abs(c) < 1 - 1e-6 else None


def _loss(model: nn.Module, data_batch: Any, layer: nn.Module, call: int, offset: Tensor) -> float:
    """Return the loss where the input of one call is moved by ``offset``."""
    numbers = itertools.count()

    def move(_: nn.Module, inputs: Any) -> Any:
        return (inputs[0] + offset, *inputs[1:]) if next(numbers) == call else None

    hook = layer.register_forward_pre_hook(move)
    try:
        with losses_of_step(model, data_batch) as losses:
            return sum(float(loss.detach()) for loss in losses)
    finally:
        hook.remove()


def finite(value: Tensor | float | None) -> float | None:
    """Return a finite number for JSON, None for any other value."""
    return None if value is None or not math.isfinite(value) else float(value)
