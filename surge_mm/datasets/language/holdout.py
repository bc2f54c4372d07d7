"""Rows of SST-2's training file to make choices on, so that its dev file is read once.

SST-2's training file has whole sentences and the phrases of their parse trees, without a mark of which is which. A row
drawn at random would leave its own phrases, or the sentence around it, in the training set. :func:`split_rows` holds
out whole sentences together with every row that is contained in them.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

from surge_mm.utils.errors import DatasetError

HOLDOUT_ROWS = 5000
PARTS = ('fit', 'holdout')
"""Splits of the training file."""


@functools.lru_cache(maxsize=2)
def split_rows(
    sentences: tuple[str, ...], least: int = HOLDOUT_ROWS
) -> tuple[list[int], list[int]]:
    """Split rows into those to fit a model to and those that are held out.

    A row is a whole sentence if no other row contains its words in this order without a gap. Whole sentences are drawn
    at random, with a fixed seed, until they and the rows contained in them are at least ``least``.

    Args:
        sentences (tuple[str, ...]): Text of each row.
        least (int): Smallest number of rows to hold out. Defaults to 5000.

    Returns:
        tuple[list[int], list[int]]: Indices of the rows to fit and of those held out, each in ascending order.

    Raises:
        DatasetError: if there would be no row to fit.
    """
    words = [tuple(text.split()) for text in sentences]
    rows: dict[tuple[str, ...], list[int]] = {}
    for index, phrase in enumerate(words):
        rows.setdefault(phrase, []).append(index)
    contained = {inner for phrase in rows for inner in _parts(phrase) if inner in rows}
    whole = sorted(rows.keys() - contained)
    random.Random(0).shuffle(whole)
    held: set[int] = set()
    for phrase in whole:
        if len(held) >= least:
            break
        for inner in {phrase, *_parts(phrase)}:
            held.update(rows.get(inner, ()))
    if len(held) < least or len(held) == len(words):
        raise DatasetError(
            f'{least} rows cannot be held out of {len(words)}: set holdout_rows to a smaller number'
        )
    return [i for i in range(len(words)) if i not in held], sorted(held)


def _parts(phrase: Sequence[str]) -> set[tuple[str, ...]]:
    """Return the shorter phrases that are contained in a phrase."""
    count = len(phrase)
    return {
        tuple(phrase[start:end])
        for start in range(count)
        for end in range(start + 1, count + 1)
        if end - start < count
    }
