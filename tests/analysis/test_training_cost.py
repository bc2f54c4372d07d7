"""Costs of a step against what is known of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from surge_mm.analysis.training_cost import (
    Growth,
    exponent,
    interleaved_times,
    plot_growth,
    ratio,
    saved_bytes,
)


def test_bytes_kept_are_counted_once_by_storage_and_by_layer():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    x = torch.randn(4, 2, 5, 5)
    saved = saved_bytes(model, lambda: model(x), ['0', '2'])
    # the convolutions keep their inputs; that of the second is what Tanh keeps; Sigmoid keeps its output
    inputs, between = 4 * 2 * 25 * 4, 4 * 3 * 25 * 4
    assert saved.binary == inputs + between
    assert saved.whole == inputs + 2 * between


def test_steps_take_turns_and_those_of_the_warmup_are_not_counted():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in 'ab'}
    times = interleaved_times(steps, rounds=3, warmup=1, after=lambda: order.append('.'))
    assert ''.join(order) == 'a.b.' * 4
    assert {name: len(values) for name, values in times.items()} == {'a': 3, 'b': 3}


def test_ratio_is_that_of_medians():
    assert ratio({'a': [1.0, 3.0, 100.0], 'b': [2.0, 1.5, 0.1]}, 'a', 'b') == 2


@given(st.floats(-2, 3), st.floats(0.1, 10))
def test_exponent_of_a_power_is_found(p, factor):
    sizes = [2, 5, 11, 40]
    assert exponent(sizes, [factor * size**p for size in sizes]) == pytest.approx(p, abs=1e-9)


def test_exponent_of_one_size_is_refused():
    with pytest.raises(ValueError, match='at least two'):
        exponent([4], [1.0])


def test_growth_is_drawn(tmp_path):
    growth = Growth('batch', [2, 4], {'SURGE': [1.0, 2.0]}, {'SURGE': [1e6, 2e6]})
    assert plot_growth([growth, growth], tmp_path / 'new' / 'growth.png').stat().st_size > 1000
