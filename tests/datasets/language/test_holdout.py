import random

import pytest

from surge_mm.datasets.language.holdout import split_rows
from surge_mm.utils.errors import DatasetError


def sentences_with_phrases(seed=0, count=40):
    """Return sentences of random words, and for each some phrases contained in it, as SST-2 has."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        words = [f'w{rng.randrange(80)}' for _ in range(rng.randint(4, 9))]
        rows.append(' '.join(words) + ' ')
        for _ in range(5):
            start = rng.randrange(len(words) - 1)
            rows.append(' '.join(words[start : rng.randint(start + 1, len(words))]) + ' ')
    rng.shuffle(rows)
    return tuple(rows)


def contains(whole, part):
    return f' {part.strip()} ' in f' {whole.strip()} '


def test_no_phrase_of_a_held_out_sentence_is_left_in_the_rest():
    rows = sentences_with_phrases()
    fit, held = split_rows(rows, 60)
    assert sorted(fit + held) == list(range(len(rows)))
    assert len(held) >= 60
    whole = [
        i
        for i in held
        if not any(contains(rows[j], rows[i]) for j in range(len(rows)) if rows[j] != rows[i])
    ]
    assert len(whole) >= 5
    assert all(any(contains(rows[i], rows[j]) for i in whole) for j in held)
    assert not any(contains(rows[i], rows[j]) for i in whole for j in fit)


def test_the_split_is_the_same_each_time():
    rows = sentences_with_phrases()
    assert split_rows.__wrapped__(rows, 60) == split_rows.__wrapped__(
        rows, 60
    )  # not from the cache


def test_more_rows_than_there_are_cannot_be_held_out():
    with pytest.raises(DatasetError, match='5000 rows cannot be held out of 240: set holdout_rows'):
        split_rows(sentences_with_phrases())
