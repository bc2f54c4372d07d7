"""What a layer's ``compensator=dict(...)`` says, read and checked.

The formulas that it chooses between stand in :mod:`surge_mm.ops.dual_path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from surge_mm.ops import AdaptiveScale, FixedScale
from surge_mm.utils.argument_checks import did_you_mean


@dataclass(frozen=True)
class Compensator:
    """What a layer's ``compensator`` says: the policy for lambda, and how W_a starts or that it is W_b."""

    scale: FixedScale | AdaptiveScale
    init: str
    tied: bool


def parse_compensator(compensator: dict[str, Any]) -> Compensator:
    """Read ``compensator=dict(scale=...)`` or ``dict(eta=..., preserve_norm=False)``.

    Both take ``init='copy'`` or ``tied=True``.

    Raises:
        ValueError: a key that does not exist, both or neither of ``scale`` and ``eta``, a value out of range.
    """
    said = f'compensator={compensator!r}'
    if not isinstance(compensator, dict):
        raise ValueError(
            f'{said} must be a dict such as dict(eta=0.1), or None for a plain binary layer'
        )
    known = ('scale', 'eta', 'preserve_norm', 'init', 'tied')
    for key in compensator:
        if key not in known:
            raise ValueError(f'{said}: unknown {key!r}{did_you_mean(str(key), known)}')
    if ('scale' in compensator) == ('eta' in compensator):
        raise ValueError(
            f'{said} needs one of scale (a fixed lambda) and eta (the Adaptive Gradient Scaler), not both or neither'
        )
    init = compensator.get('init', 'copy')
    if init not in ('copy', 'kaiming'):
        raise ValueError(
            f"{said}: init={init!r} must be 'copy' (of weight) or 'kaiming' (a draw of its own)"
        )
    tied = compensator.get('tied', False)
    if not isinstance(tied, bool):
        raise ValueError(f'{said}: tied={tied!r} must be True or False')
    if tied and 'init' in compensator:
        raise ValueError(
            f'{said}: a tied branch has no weights of its own that could start; drop init or tied'
        )
    if 'scale' in compensator:
        if 'preserve_norm' in compensator:
            raise ValueError(
                f'{said}: preserve_norm belongs to eta; drop it, or use eta instead of scale'
            )
        fixed = FixedScale(_not_negative('scale', compensator['scale']))
        return Compensator(fixed, init, tied)
    scale = adaptive_scale(compensator['eta'], compensator.get('preserve_norm', False))
    return Compensator(scale, init, tied)


def adaptive_scale(eta: float, preserve_norm: bool = False, sync: bool = False) -> AdaptiveScale:
    """An :class:`AdaptiveScale` of checked values.

    Raises:
        ValueError: eta is no finite number of at least 0, or preserve_norm or sync is no bool.
    """
    for name, value in (('preserve_norm', preserve_norm), ('sync', sync)):
        if not isinstance(value, bool):
            raise ValueError(f'{name}={value!r} must be True or False')
    return AdaptiveScale(_not_negative('eta', eta), preserve_norm, sync)


def _not_negative(name: str, value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not 0 <= value < float('inf')
    ):
        raise ValueError(f'{name}={value!r} must be a finite number of at least 0')
    return float(value)
