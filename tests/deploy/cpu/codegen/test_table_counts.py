"""Counts by tables, called from a compiled function, against popcounts of NumPy."""

import numpy as np
import pytest

numba = pytest.importorskip('numba')
from surge_mm.deploy.cpu.codegen import table_counts, vectors  # noqa: E402  needs Numba

PIXELS, FILTERS = 2, 64


@numba.njit
def count(words, distance, indices, n, counts, steps, n_steps, filters, block_bytes, blocks):
    table_counts.pair_indices(words, distance, indices, n)
    arguments = indices, 4 * n, steps, n_steps, filters, block_bytes
    if blocks == 2:
        table_counts.count_blocks(counts, *arguments)
    else:
        table_counts.count_block(counts, *arguments)


def nibbles(filters):
    """Return the bytes of the filters, ``(2 blocks, 8 n, 32)``, in the documented order."""
    steps = [
        filters >> np.uint32(16 * i + 4 * k) & np.uint32(15) for k in range(4) for i in range(2)
    ]
    fours = np.stack(steps, axis=-1).astype(np.uint8).reshape(FILTERS, -1)
    places = [f for i in range(16) for f in (i, 16 + i)]
    return np.stack([fours[:32][places].T, fours[32:][places].T]).copy()


@pytest.mark.skipif(not vectors.FEATURES.get('avx2'), reason='an instruction of AVX2')
@pytest.mark.parametrize('blocks', [1, 2])
@pytest.mark.parametrize('kind', ['random', 'all bits differ', 'no bit differs'])
def test_counts_of_two_pixels_are_popcounts(kind, blocks):
    draw = np.random.default_rng(0)
    for n in (1, 2, 5, 6, 7, 9, 16, 30):
        distance = int(draw.integers(0, 4))
        words = draw.integers(0, 2**32, n + distance, dtype=np.uint32)
        filters = draw.integers(0, 2**32, (FILTERS, n), dtype=np.uint32)
        if kind != 'random':  # for the first pixel
            filters[:] = words[:n] if kind == 'no bit differs' else ~words[:n]
        steps, indices = np.arange(n), np.empty(8 * n, np.uint16)
        counts = np.full((blocks * 2 + 1, table_counts.MOST_PIXELS, 16), 7, np.int32)
        w = nibbles(filters)
        arrays = words, steps, indices, counts, w
        x, s, i, c, f = (array.ctypes.data for array in arrays)
        count(x, distance, i, n, c, s, n, f, w[0].nbytes, blocks)
        for p in range(PIXELS):
            found = counts[: 2 * blocks, p].reshape(-1)
            differ = words[p * distance :][:n] ^ filters[: len(found)]
            bits = np.unpackbits(differ.view(np.uint8), axis=1).sum(1)
            assert (found == bits).all(), (n, p)
        assert (counts[2 * blocks :] == 7).all()
        assert (counts[:, PIXELS:] == 7).all()
