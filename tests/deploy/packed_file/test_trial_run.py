"""The comparison of a packed model with its checkpoint."""

import math

import pytest
import torch

from surge_mm.deploy.packed_file.trial_run import largest_difference

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ('expected', 'got', 'difference'),
    [
        ([1.0, -4.0], [1.0, -4.0], 0),
        ([1.0, -4.0], [2.0, -4.0], 0.25),
        ([1.0, NAN, INF, -INF], [1.0, NAN, INF, -INF], 0),
        ([2.0, NAN], [1.0, NAN], 0.5),
        ([0.0, 1.0], [NAN, 1.0], INF),
        ([1.0, NAN], [1.0, 0.0], INF),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([INF, 1.0], [1.0, 1.0], INF),
        ([NAN], [INF], INF),
        ([], [], 0),
        ([1.0], [1.0, 2.0], INF),
    ],
)
def test_the_largest_difference_is_relative_and_infinite_beside_other_numbers_that_are_not_finite(
    expected, got, difference
):
    one, other = torch.tensor(expected), torch.tensor(got)
    assert largest_difference({'x': one}, {'x': other}) == difference


def test_a_prediction_that_one_result_lacks_is_an_infinite_difference():
    assert largest_difference({'prediction 0': torch.ones(1)}, {}) == INF
    assert largest_difference({'other': torch.ones(1)}, {}) == 0
