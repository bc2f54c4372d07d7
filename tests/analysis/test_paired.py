"""Intervals against scipy, and the sign-flip test against counts by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from surge_mm.analysis.paired import bootstrap_interval, interval, sign_flip_p


def test_sign_flip_test_counts_the_assignments_as_far_from_zero():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == 2 / 64
    assert sign_flip_p(np.array([1.0, -1.0, 0.0])) == 1
    assert sign_flip_p(np.array([3.0, 1.0, -1.0])) == 6 / 8


def test_interval_is_that_of_the_paired_t_test():
    one, other = np.array([1.0, 2.5, 3.0, 4.0]), np.array([1.5, 2.0, 4.0, 5.0])
    expected = stats.ttest_rel(other, one).confidence_interval(0.95)
    assert interval(other - one) == pytest.approx((expected.low, expected.high))


def test_many_differences_have_the_share_of_random_assignments():
    differences = np.random.default_rng(3).normal(0.2, 1, 24)
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert 0.1 < normal < 0.9 and sign_flip_p(differences) == pytest.approx(normal, abs=0.03)


@pytest.mark.parametrize('values', [[], [1.0], [1.0, 2.0]])
def test_less_than_three_values_have_neither(values):
    assert np.isnan([*interval(values), sign_flip_p(values)]).all()


def test_equal_values_have_no_interval():
    assert np.isnan(interval([0.1, 0.3 - 0.2, 0.1])).all() and sign_flip_p([0.1, 0.1, 0.1]) == 2 / 8


def test_bootstrap_of_one_seed_is_the_standard_error_of_the_rows():
    differences = np.random.default_rng(0).normal(0.2, 1.0, (1, 500))
    mean, error = differences.mean(), differences.std() / 500**0.5
    expected = mean - 1.96 * error, mean + 1.96 * error
    assert bootstrap_interval(differences) == pytest.approx(expected, abs=0.15 * error)


def test_bootstrap_draws_seeds_too():
    differences = np.repeat([[1.0], [2.0], [6.0]], 50, axis=1)  # rows that do not differ
    assert bootstrap_interval(differences) == (1.0, 6.0)  # a seed three times: 1 in 27 resamples


def test_a_difference_that_is_not_finite_has_no_p():
    assert math.isnan(sign_flip_p([math.nan, 0.1, 0.2, 0.3]))
    assert math.isnan(sign_flip_p([math.inf, 0.1, 0.2, 0.3]))
