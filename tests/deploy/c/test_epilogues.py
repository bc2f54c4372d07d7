"""Signs of integers in place of the steps after a sum."""

import numpy as np
import pytest
import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import pack
from surge_mm.deploy.c.epilogues import thresholds, with_thresholds
from surge_mm.deploy.c.export import graph_of

LARGEST, CHANNELS = 600, 300


@pytest.mark.parametrize('seed', range(8))
def test_signs_equal_those_of_the_steps_for_every_sum(seed):
    random = np.random.default_rng(seed)
    names = ('m1', 'a1', 'p', 'slope', 'c', 'low', 'high')
    # of different sizes, so that some signs never change
    rows = random.standard_normal((8, CHANNELS), np.float32) * 10.0 ** random.integers(
        -2, 3, (8, 1)
    )
    *given, shift = rows.astype(np.float32)
    steps = dict(zip(names, given, strict=True))
    steps['slope'] = np.abs(steps['slope'])
    steps['high'] = steps['low'] + 1
    steps['m1'][:3] = 0
    sums = np.arange(-LARGEST, LARGEST + 1, dtype=np.float32)[:, None]
    y = sums * steps['m1'] + steps['a1'] + steps['p']
    y = np.where(y > 0, y, steps['slope'] * y) + steps['c']
    y = np.minimum(np.maximum(y, steps['low']), steps['high']) + shift
    negative = np.signbit(y)
    factor, term = thresholds(steps, shift, CHANNELS, LARGEST)
    assert np.array_equal(factor, np.where(negative[-1] & ~negative[0], -1, 1))
    assert np.array_equal(np.signbit(factor * sums + term), negative)


def test_steps_that_are_not_monotone_have_no_thresholds():
    steps = {'p': np.float32([5.0]), 'slope': np.float32([-1.0]), 'c': np.float32([-3.0])}
    assert thresholds(steps, None, 1, 9) is None


def test_layers_whose_signs_alone_are_read_get_thresholds():
    def layers():
        return SurgeConv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.PReLU()

    model = nn.Sequential(SurgeConv2d(3, 8, 3, padding=1), *layers(), *layers(), nn.Conv2d(8, 2, 1))
    torch.manual_seed(0)
    graph = with_thresholds(graph_of(pack(model.eval()), (8, 8)))
    found = [node.options.get('thresholds', False) for node in graph.nodes]
    assert found == [True, True, False, False]
