"""Arguments are checked against their annotations."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest

from surge_mm.utils.argument_checks import (
    Cfg,
    Count,
    Finite,
    Fraction,
    Positive,
    check_keywords,
    checked,
    describe,
    matches,
)
from surge_mm.utils.errors import UsageError

Side = Literal['left', 'right']


@pytest.mark.parametrize(
    'hint, good, bad, description',
    [
        (int, [3, -1, np.int64(3)], [True, 3.0, '3', None], 'a whole number'),
        (float, [3, 2.5, math.inf, np.float32(1)], [False, '3', None, 1j], 'a number'),
        (bool, [True, 0, 1], [2, 'yes', None, 1.5], 'True or False'),
        (str, ['', 'a'], [b'a', None, 1], 'a string'),
        (Any, [None, 1, 'a'], [], 'typing.Any'),
        (int | None, [1, None], ['', 1.5], 'a whole number or None'),
        (Side, ['left', 'right'], ['Left', None, 0, ['left']], "'left' or 'right'"),
        (Literal[0, 1, -1], [0, 1.0], [True, 2, '0'], '0, 1 or -1'),
        (Positive, [1, 2], [0, -1, 1.0, True], 'a whole number of at least 1'),
        (Count, [0], [-1], 'a whole number of at least 0'),
        (Finite, [-1e30, 2], [math.nan, math.inf, '2'], 'a number that is finite'),
        (Fraction, [0, 0.5, 1], [-0.1, 1.1, math.nan], 'a number in 0 to 1'),
        (Cfg, [{'type': 'BN'}, {'type': int}], [{}, {'type': 3}, 'BN', None], 'a dict with a type'),
        (
            dict[str, int],
            [{}, {'a': 1}],
            [{1: 1}, {'a': 'b'}, []],
            'a dict, of which each value is a whole number',
        ),
        (tuple[int, int], [(1, 2), [1, 2]], [(1,), (1, '2'), '12', 1], 'a list, of which each is'),
        (
            Sequence[float],
            [[], (1, 2.5), np.ones(2)],
            ['12', {1: 2}, 1.5, ['a']],
            'a list, of which each is a number',
        ),
    ],
)
def test_values_match_their_annotation(hint, good, bad, description):
    assert [value for value in good if not matches(value, hint)] == []
    assert [value for value in bad if matches(value, hint)] == []
    assert describe(hint).startswith(description)


class Base:
    def __init__(self, width: int = 1) -> None:
        self.width = width


class Branch(Base):
    @checked
    def __init__(self, side: Side, *, height: Positive = 1, **kwargs: int) -> None:
        super().__init__(**kwargs)
        self.height = height


def test_a_checked_constructor_names_the_wrong_argument_and_keeps_its_signature():
    assert Branch('left', height=2, width=3).width == 3
    with pytest.raises(UsageError, match=r"^Branch: side='up' must be 'left' or 'right'$"):
        Branch('up')
    with pytest.raises(
        UsageError, match=r'^Branch: height=0 must be a whole number of at least 1$'
    ):
        Branch('left', height=0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'side'"):
        Branch()


def test_names_that_a_checked_constructor_passes_on_are_checked():
    with pytest.raises(
        UsageError, match=r"^Branch: unknown argument 'widht'; did you mean 'width'\?"
    ):
        Branch('left', widht=3)
    check_keywords('f', {'anything': 1}, lambda **kwargs: kwargs)
