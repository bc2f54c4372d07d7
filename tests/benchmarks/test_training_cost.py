"""Saved bytes and growth exponents of cases with known answers."""

import gc
import weakref

import pytest
import torch
from benchmark_cases.training_cost import Growth, growth_exponent, plot_growth, saved_bytes
from hypothesis import given
from hypothesis import strategies as st
from torch import nn


def test_bytes_kept_are_counted_once_by_storage_and_by_layer():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    x = torch.randn(4, 2, 5, 5)
    saved = saved_bytes(model, lambda: model(x), ['0', '2'])
    # the convolutions keep their inputs; that of the second is what Tanh keeps; Sigmoid keeps its output
    inputs, between = 4 * 2 * 25 * 4, 4 * 3 * 25 * 4
    assert saved.layers == inputs + between
    assert saved.model == inputs + 2 * between


def test_bytes_kept_are_freed_without_the_garbage_collector():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.Conv2d(3, 3, 1))
    outputs = []
    model[1].register_forward_hook(lambda *call: outputs.append(weakref.ref(call[-1])))
    gc.collect()
    gc.disable()
    try:
        saved_bytes(model, lambda: model(torch.randn(4, 2, 5, 5)), ['0'])
        assert outputs[0]() is None
    finally:
        gc.enable()


@given(st.floats(-2, 3), st.floats(0.1, 10))
def test_exponent_of_a_power_is_found(p, factor):
    sizes = [2, 5, 11, 40]
    assert growth_exponent(sizes, [factor * size**p for size in sizes]) == pytest.approx(
        p, abs=1e-9
    )


def test_exponent_of_one_size_is_refused():
    with pytest.raises(ValueError, match='at least two values'):
        growth_exponent([4], [1.0])


def test_growth_is_drawn(tmp_path):
    growth = Growth('batch', [2, 4], {'SURGE': [1.0, 2.0]}, {'SURGE': [1e6, 2e6]})
    assert plot_growth([growth, growth], tmp_path / 'new' / 'growth.png').stat().st_size > 1000
