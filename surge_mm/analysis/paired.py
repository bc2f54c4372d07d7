"""Intervals of a mean, and of differences paired by seed and row; the sign-flip test of paired differences."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean; nan for less than three values, and for equal values.

    The interval of two values is twelve times as wide as their distance, whatever the level of noise.

    Args:
        values (Sequence[float]): such as one for each seed.

    Returns:
        tuple[float, float]: lower and upper end.
    """
    if len(values) < 3 or np.ptp(values) <= 1e-9 * np.abs(values).max():  # equal but for rounding
        return math.nan, math.nan
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return p of the two-sided sign-flip test; nan for less than three differences, or if one is not finite.

    It is the share of assignments of signs whose mean is at least as far from 0 as that of ``differences``: of all of
    them for up to 16 differences, else of 100,000 drawn with a fixed seed.
    """
    if len(differences) < 3 or not np.isfinite(differences).all():
        return math.nan
    options = {'permutation_type': 'samples', 'n_resamples': 10**5, 'random_state': 0}
    return float(stats.permutation_test([differences], np.mean, **options).pvalue)


def bootstrap_interval(differences: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference over resamples of seeds and rows, drawn with replacement.

    Args:
        differences (np.ndarray): value of one variant minus that of another, for each seed and row of a test set, shape
            (seeds, rows).
        resamples (int): number of resamples, drawn with a fixed seed. Defaults to 2000.

    Returns:
        tuple[float, float]: lower and upper end.
    """
    rng = np.random.default_rng(0)
    seeds, rows = differences.shape
    means = np.empty(resamples)
    for number in range(resamples):
        drawn = np.bincount(rng.integers(rows, size=rows), minlength=rows)
        means[number] = (differences @ drawn)[rng.integers(seeds, size=seeds)].mean() / rows
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
