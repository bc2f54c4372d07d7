import math

import pytest

from surge_mm.preflight.annotations import is_number, some


def test_some_names_the_first_and_counts_the_rest():
    assert some('abcdefgh', shown=3) == 'a, b, c, and 5 more'
    assert some('abc', shown=3) == 'a, b, c'


def test_some_escapes_what_a_terminal_cannot_show():
    assert some(['a\nb', '\x1b[2J', 'ä 画', '\ud800']) == 'a\\nb, \\x1b[2J, ä 画, \\ud800'


@pytest.mark.parametrize('value', [0, -1, 2**62, 0.5, -1e38])
def test_numbers_that_pytorch_takes(value):
    assert is_number(value)


@pytest.mark.parametrize('value', [None, True, '1', [1], math.nan, -math.inf, 1e39, 2**62 + 1])
def test_what_is_no_number_or_too_large_for_pytorch(value):
    assert not is_number(value)
