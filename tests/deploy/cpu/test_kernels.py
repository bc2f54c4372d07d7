"""Cases of the compiled loops that the layers of test_packed_layers.py do not reach."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d
from surge_mm.deploy.cpu import plan

numba = pytest.importorskip('numba')
from surge_mm.deploy.cpu import memory_intrinsics, vector_codegen  # noqa: E402  need Numba


@numba.njit
def parities(words, column_step, to, n):
    memory_intrinsics.parities(words, column_step, to, n)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_parities_are_the_xor_of_three_words(n, step, seed):
    draw = np.random.default_rng(seed)
    words = draw.integers(-(2**63), 2**63, n + 2 * step, dtype=np.int64)
    to = np.full(n + 3, 7, dtype=np.int64)
    parities(words.ctypes.data, step, to.ctypes.data, n)
    assert (to[:n] == words[:n] ^ words[step : n + step] ^ words[2 * step :]).all()
    assert (to[n:] == 7).all()


@torch.no_grad()
@pytest.mark.parametrize('count', [1, 2, 5])
@pytest.mark.parametrize(('channels', 'filters'), [(64, 48), (130, 20)])
def test_an_image_of_more_tiles_than_are_read_at_once(channels, filters, count, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: count)
    monkeypatch.setattr(plan, 'WORTH_THREADS', 0)
    layer = SurgeConv2d(channels, filters, 3, padding=1).eval()
    x = torch.randn(2, channels, 31, 29)
    assert 3 * 32 * vector_codegen.PIXELS < 31 * 29
    assert torch.equal(PackedConv2d(layer)(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize('kernel', [1, 3, (3, 5), (5, 3)])
@pytest.mark.parametrize('sign', [1.0, -1.0])
def test_sums_are_right_where_every_bit_differs_or_none(kernel, sign):
    layer = SurgeConv2d(192, 17, kernel, bias=False, weight={'type': 'Sign'}).eval()
    layer.weight.fill_(-0.5)
    out = PackedConv2d(layer)(torch.full((1, 192, 9, 8), sign))
    assert (out == -sign * layer.weight[0].numel()).all()


@torch.no_grad()
@pytest.mark.parametrize('size', [(1, 1), (1, 6), (2, 3), (3, 5)])
def test_an_image_smaller_than_a_tile(size):
    layer, x = SurgeConv2d(64, 40, 3, padding=1).eval(), torch.randn(3, 64, *size)
    assert torch.equal(PackedConv2d(layer)(x), layer(x))
