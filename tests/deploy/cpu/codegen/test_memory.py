"""Intrinsics of memory access, called from a compiled function."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

numba = pytest.importorskip('numba')
from surge_mm.deploy.cpu.codegen import memory  # noqa: E402  needs Numba


@numba.njit
def parities(words, column_step, to, n):
    memory.parities(words, column_step, to, n)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31))
def test_parities_are_the_xor_of_three_words(n, step, seed):
    draw = np.random.default_rng(seed)
    words = draw.integers(-(2**63), 2**63, n + 2 * step, dtype=np.int64)
    to = np.full(n + 3, 7, dtype=np.int64)
    parities(words.ctypes.data, step, to.ctypes.data, n)
    assert (to[:n] == words[:n] ^ words[step : n + step] ^ words[2 * step :]).all()
    assert (to[n:] == 7).all()
