"""Thresholds of counts, for layers of which nothing but the signs of the output is read.

With the count of bits that differ, ``S = base - 2 count``. All steps after S are monotone, unless a slope is negative,
so the sign of ``steps(S) + shift`` changes once at most. It is a comparison of the count with an integer::

    sign bit = (count > limit) ^ rises         rises: whether the output rises with the count
"""

from __future__ import annotations

import torch
from torch import Tensor

from surge_mm.deploy.cpu.passes import Finish, Pool
from surge_mm.deploy.packing.epilogue import sign_changes

MOST_OUTPUTS = 1 << 23
"""Outputs that are computed to find thresholds, at most."""


def changes_of_sums(
    table: Tensor, activates: bool, shift: Tensor, largest: int
) -> tuple[Tensor, Tensor] | None:
    """Return how the sign of each output channel changes with the sum, or None if one changes more than once.

    The steps are computed for every possible sum, by the compiled loops, so that the signs are equal to the bit.

    Args:
        table (Tensor): ``(9, channels)``, float32, the steps of :mod:`surge_mm.deploy.packing.epilogue`.
        activates (bool): Whether the table has steps after the shortcut.
        shift (Tensor): Added to the output before its sign is taken, ``(channels,)``, float32.
        largest (int): Number of products of a sum, its largest value.

    Returns:
        tuple[Tensor, Tensor] | None: As :func:`surge_mm.deploy.packing.epilogue.sign_changes`.
    """
    channels = table.shape[1]
    if channels * (2 * largest + 1) > MOST_OUTPUTS:
        return None
    sums = torch.arange(-largest, largest + 1, dtype=torch.float32)
    sums = sums[:, None].expand(-1, channels).contiguous().t()[None, :, None]
    out = Finish(table, activates, Pool(), (1, channels, 1, sums.shape[3]), 1).run(sums)[0, :, 0]
    return sign_changes(out + shift[:, None])


def count_thresholds(base: Tensor, changes: tuple[Tensor, Tensor], largest: int) -> Tensor:
    """Return the thresholds of each output channel.

    Args:
        base (Tensor): Sums where no bit differs, ``(B, channels)``, int32, for each of B ways to meet the border.
        changes (tuple[Tensor, Tensor]): Those of :func:`changes_of_sums`.
        largest (int): Number of products of a sum, its largest value.

    Returns:
        Tensor: ``(1 + B, channels)``, int32: 0 or -1 for rises, then a limit for each row of ``base``.
    """
    # an output that falls with the sum rises with the count
    falls, n_negative = changes
    # the lowest sums are negative, those below `first`; or those above `last`
    first, last = n_negative - largest, largest - n_negative
    # S < first: count > (base - first) / 2; S > last: not count >= (base - last) / 2
    below = (base - first).div(2, rounding_mode='floor')
    above = -(last - base).div(2, rounding_mode='floor') - 1
    limits = torch.where(falls, above, below)
    return torch.cat([-falls.long()[None], limits]).to(torch.int32).contiguous()
