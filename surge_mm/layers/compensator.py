"""The setting ``compensator=dict(...)`` of a layer.

The formulas are in :mod:`surge_mm.ops.dual_path` and :mod:`surge_mm.ops.gradient_scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from surge_mm.ops import GradientScale
from surge_mm.utils.argument_checks import checked
from surge_mm.utils.suggestions import did_you_mean

DEFAULT_ETA = 0.1
BRANCH_KEYS = ('init', 'tied', 'frozen', 'dtype')
KEYS = ('type', 'scale', 'eta', 'preserve_norm', *BRANCH_KEYS)


@checked
@dataclass(frozen=True)
class Compensator:
    """The auxiliary branch of a layer.

    Args:
        scale (GradientScale): The rule for lambda.
        init (str): How W_a starts: ``'copy'`` of W_b, or ``'kaiming'``, random values of its own. Defaults to
            ``'copy'``.
        tied (bool): Whether W_a is W_b itself, so that there are no auxiliary weights. Defaults to False.
        frozen (bool): Whether W_a stays at random values of its own. Defaults to False.
        dtype (str, optional): ``'bfloat16'`` for products of the branch in bfloat16. Defaults to None: that of the
            binary path.

    Raises:
        UsageError: if ``init``, ``tied``, ``frozen`` or ``dtype`` has another value.
    """

    scale: GradientScale
    init: Literal['copy', 'kaiming'] = 'copy'
    tied: bool = False
    frozen: bool = False
    dtype: Literal['bfloat16'] | None = None


def parse_compensator(compensator: Mapping[str, Any]) -> Compensator:
    """Parse ``dict(eta=..., preserve_norm=False)`` (AGS), ``dict(scale=...)`` (a fixed lambda) or ``dict(type=...)``.

    ``type`` is a subclass of :class:`surge_mm.ops.GradientScale` or its name, and further keys are its arguments. All
    take one of ``init='copy' | 'kaiming'``, ``tied=True`` and ``frozen=True``, the forms of W_a, and
    ``dtype='bfloat16'``.

    Args:
        compensator (dict): The setting of a layer.

    Raises:
        ValueError: if a key is unknown, if both or neither of ``scale`` and ``eta`` are given without a ``type``, if
            ``type`` is no scale, or if a value is out of range.
        TypeError: if the class ``type`` does not have one of the arguments.
    """
    if not isinstance(compensator, Mapping):
        raise ValueError(
            f'compensator={compensator!r} must be a dict such as dict(eta={DEFAULT_ETA}), or None for a plain binary '
            'layer'
        )
    settings = {key: compensator[key] for key in BRANCH_KEYS if key in compensator}
    arguments = {key: value for key, value in compensator.items() if key not in BRANCH_KEYS}
    if 'type' in arguments:
        scale = GradientScale.build(arguments)
    try:
        if 'type' not in arguments:
            scale = GradientScale.build(_with_type(arguments))
        if settings.get('tied') and 'init' in settings:
            raise ValueError('a tied branch has no weights of its own; drop init or tied')
        if settings.get('frozen'):
            if settings.get('tied') or 'init' in settings:
                raise ValueError(
                    'a frozen branch has random weights; drop frozen, or init and tied'
                )
            settings['init'] = 'kaiming'
        return Compensator(scale, **settings)
    except ValueError as error:
        raise ValueError(f'compensator={compensator!r}: {error}') from error


def _with_type(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the setting of a built-in scale with its type, which ``scale`` or ``eta`` implies."""
    for key in arguments:
        if key not in KEYS:
            raise ValueError(f'unknown {key!r}{did_you_mean(str(key), KEYS)}')
    if ('scale' in arguments) == ('eta' in arguments):
        raise ValueError(
            'give either scale (a fixed lambda) or eta (the Adaptive Gradient Scaler), not both or neither'
        )
    if 'scale' not in arguments:
        return {'type': 'AdaptiveScale', **arguments}
    if 'preserve_norm' in arguments:
        raise ValueError('preserve_norm belongs to eta; drop it, or use eta instead of scale')
    return {'type': 'FixedScale', 'value': arguments['scale']}
