"""Which engine runs packed layers on this machine, and how a layer calls it."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from .geometry import Geometry

PLAIN = 'plain PyTorch'
_one_at_a_time = threading.Lock()  # not all of Numba's thread pools may be entered twice


@cache
def kernels() -> Any:
    """The compiled loops; None where there is no Numba, or the machine orders bytes the other way."""
    if sys.byteorder != 'little':
        return None
    try:
        from . import kernels as compiled
    except ImportError:
        _say_once(
            'packed layers run in plain PyTorch, right but slow: Numba is not installed. pip install "surge_mm[deploy]"'
        )
        return None
    if not compiled.WIDE:
        _say_once(
            f'packed layers run with {instruction_set(compiled)}, right but slower than with AVX-512, which this CPU '
            'does not have'
        )
    return compiled


@cache
def _say_once(text: str) -> None:
    print_log(text, 'current')


def instruction_set(compiled: Any = None) -> str:
    """What packed layers run on here: ``'AVX-512 VPOPCNTDQ'``, ``'AVX-512'``, ``'AVX2'``, ``'NEON'``, ..."""
    compiled = compiled or kernels()
    if compiled is None:
        return PLAIN
    named = {
        'avx512vpopcntdq': 'AVX-512 VPOPCNTDQ',
        'avx512f': 'AVX-512',
        'avx2': 'AVX2',
        'sse4.2': 'SSE4.2',
        'neon': 'NEON',
    }
    return next((name for key, name in named.items() if compiled.FEATURES.get(key)), 'no vectors')


def threads() -> int:
    """As many as PyTorch's, within Numba's limit."""
    import numba

    return max(1, min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]


def blocked(words: Tensor, groups: int) -> np.ndarray:
    """The words of filters as the loops read them.

    Shape: ``(C_out, K) -> (groups, blocks, K, filters of a block)`` of uint64; filters left over are 0.
    """
    compiled = kernels()
    filters = compiled.LANES * compiled.VECTORS
    per_group = len(words) // groups
    width = row_width(per_group)
    padded = np.zeros((groups, width, words.shape[1]), np.uint64)
    padded[:, :per_group] = words.numpy().view(np.uint64).reshape(groups, per_group, -1)
    blocks = padded.reshape(groups, width // filters, filters, -1)
    return np.ascontiguousarray(blocks.transpose(0, 1, 3, 2))


def row_width(channels: int) -> int:
    """``channels`` and what fills the last vector."""
    return -(-channels // 16) * 16


def widened(table: Tensor, groups: int) -> np.ndarray:
    """Rows of numbers per output channel with each group's filled up: ``(rows, C_out) -> (rows, groups * width)``."""
    rows = table.reshape(len(table), groups, -1)
    filled = rows.new_zeros(len(table), groups, row_width(rows.shape[2]))
    filled[:, :, : rows.shape[2]] = rows
    return np.ascontiguousarray(filled.flatten(1).numpy())


def pack(x: Tensor, shift: np.ndarray, groups: int, geo: Geometry, signs: np.ndarray) -> None:
    """Write the sign bits of ``x + shift`` into padded images.

    Args:
        x (Tensor): ``(N, H, W, C)`` of float32, without gaps.
        shift (np.ndarray): ``(C,)``.
        groups (int): Of the convolution that reads them.
        geo (Geometry): Where pixels lie in a padded image.
        signs (np.ndarray): ``(N, bytes of an image)`` of uint8, written where pixels are.
    """
    compiled = kernels()
    pixels = x.reshape(x.shape[0], -1, x.shape[-1]).numpy()
    count = threads()
    if count == 1:
        compiled.pack_pixels(
            pixels, shift, groups, signs, geo.places, 0, pixels.shape[0] * pixels.shape[1]
        )
        return
    with _one_at_a_time:
        compiled.pack_parallel(pixels, shift, groups, signs, geo.places, count)


NO_FLOATS = np.zeros((0, 0, 0), np.float32)
NO_BYTES = np.zeros((0, 0), np.uint8)
NO_PLACES = np.zeros(0, np.int64)


def convolve(
    x: np.ndarray,
    geo: Geometry,
    filters: np.ndarray,
    base: np.ndarray,
    table: np.ndarray,
    channels: int,
    *,
    shortcut: np.ndarray = NO_FLOATS,
    out: np.ndarray = NO_FLOATS,
    shift: np.ndarray | None = None,
    signs: np.ndarray = NO_BYTES,
    places: np.ndarray = NO_PLACES,
) -> None:
    """A convolution of sign bits and what follows it.

    Args:
        x (np.ndarray): ``(N, words of a padded image)`` of int64.
        geo (Geometry): Of this convolution.
        filters (np.ndarray): As :func:`blocked` makes them.
        base (np.ndarray): ``(kinds, width)`` of int32: what the sum is where no bit differs, for each kind of border.
        table (np.ndarray): ``(9, width)``, the steps of :mod:`surge_mm.deploy.epilogue`.
        channels (int): C_out.
        shortcut (np.ndarray): ``(N, P, C_out)``, added; empty for none.
        out (np.ndarray): ``(N, P, C_out)``, written; empty where only signs are wanted.
        shift (np.ndarray): ``(width,)``, the next layer's shift before its signs.
        signs (np.ndarray): ``(N, bytes of an image)`` of the next layer, written; empty for none.
        places (np.ndarray): ``(P,)``, where each pixel's bytes begin there.
    """
    compiled = kernels()
    shift = table[1] if shift is None else shift  # not read without signs
    window = (geo.offsets, geo.taps, geo.run)
    behind = (channels, shift, shortcut, out, signs, places)
    work = compiled.Convolution(x, *window, filters, base, geo.kinds, table, *behind)
    pixels = len(geo.offsets)
    tiles = x.shape[0] * -(-pixels // min(compiled.PIXELS, pixels))
    count = min(threads(), tiles)
    if count == 1:
        compiled.convolve_tiles(work, 0, tiles)
        return
    with _one_at_a_time:
        compiled.convolve_parallel(work, tiles, count)
