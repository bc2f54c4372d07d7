"""Places in one block of memory for blocks that are not all used at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
"""Bytes by which each place is aligned."""


class Life(NamedTuple):
    """Size of a block, and the calls during which its content matters.

    Attributes:
        nbytes (int): Size.
        first (int): Index of the first call that uses it.
        last (int): Index of the last one.
    """

    nbytes: int
    first: int
    last: int


def align(nbytes: int) -> int:
    """Return the least multiple of :data:`ALIGNMENT` that is not less than a number of bytes.

    Args:
        nbytes (int): The number.
    """
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def places(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Place blocks so that no two overlap in memory whose lives overlap, the largest first.

    Args:
        lives (Sequence[Life]): The blocks.

    Returns:
        tuple[list[int], int]: The first byte of each, and the size of the whole.
    """
    found: dict[int, tuple[int, int]] = {}  # first byte, and the one after the last
    for index in sorted(range(len(lives)), key=lambda i: -lives[i].nbytes):
        nbytes, first, last = lives[index]
        taken = sorted(
            span
            for other, span in found.items()
            if lives[other].first <= last and first <= lives[other].last
        )
        start = 0
        for low, high in taken:
            if start + nbytes <= low:
                break
            start = max(start, align(high))
        found[index] = (start, start + nbytes)
    size = max((end for _, end in found.values()), default=0)
    return [found[i][0] for i in range(len(lives))], size
