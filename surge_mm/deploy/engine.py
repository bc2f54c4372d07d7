"""Which engine runs packed layers on this machine, and how a layer calls it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from .geometry import Geometry

PLAIN = 'plain PyTorch'


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
    """As many as PyTorch's."""
    return torch.get_num_threads()


def row_width(channels: int) -> int:
    """``channels`` and what fills the last vector."""
    return -(-channels // 16) * 16


def blocked(words: Tensor, groups: int) -> Tensor:
    """The words of filters as the loops read them; filters left over are 0.

    Shape: ``(C_out, K) -> (groups, blocks, K, filters of a block)`` of int64.
    """
    compiled = kernels()
    filters = compiled.LANES * compiled.VECTORS
    rows = words.unflatten(0, (groups, -1))
    rows = F.pad(rows, (0, 0, 0, row_width(rows.shape[1]) - rows.shape[1]))
    return rows.unflatten(1, (-1, filters)).transpose(2, 3).contiguous()


def widened(table: Tensor, groups: int) -> Tensor:
    """Numbers per output channel, each group filled up: ``(rows, C_out) -> (rows, groups * width of a group)``."""
    rows = table.unflatten(1, (groups, -1))
    rows = F.pad(rows, (0, row_width(rows.shape[2]) - rows.shape[2]))
    return rows.flatten(1).contiguous()


class Plan:
    """A layer upon images of one size: all that its convolution reads besides the images.

    Args:
        geo (Geometry): Where the layer reads.
        filters (Tensor): As :func:`blocked` makes them.
        base (Tensor): ``(kinds, width)`` of int32: what the sum is where no bit differs, for each kind of border.
        table (Tensor): ``(9, width)`` of float32, the steps of :mod:`surge_mm.deploy.epilogue`.
        channels (int): C_out.
        shift (Tensor): ``(width,)``, the next layer's shift before its signs.
        next_geo (Geometry, optional): Where the next layer's signs go.

    Attributes:
        numbers (np.ndarray): Addresses and sizes, in the order of ``kernels.Numbers``.
        tiles (int): Parts of an image that are computed as one.
        work (int): Words that meet words, in an image.
    """

    def __init__(
        self,
        geo: Geometry,
        filters: Tensor,
        base: Tensor,
        table: Tensor,
        channels: int,
        shift: Tensor,
        next_geo: Geometry | None,
    ) -> None:
        self.shift = shift
        self._owners = (geo, filters, base, table, next_geo)  # the addresses are theirs
        groups, blocks, steps, _ = filters.shape
        pixels = len(geo.offsets)
        numbers = kernels().Numbers(
            offsets=geo.offsets.data_ptr(),
            taps=geo.taps.data_ptr(),
            n_taps=geo.taps.shape[1],
            run=geo.run,
            image_bytes=geo.image_words * 8,
            pixels=pixels,
            filters=filters.data_ptr(),
            groups=groups,
            blocks=blocks,
            steps=steps,
            base=base.data_ptr(),
            kinds=geo.kinds.data_ptr(),
            table=table.data_ptr(),
            width=table.shape[1],
            channels=channels,
            shift=shift.data_ptr(),
            places=next_geo.places.data_ptr() if next_geo else 0,
            signs_bytes=next_geo.image_words * 8 if next_geo else 0,
        )
        self.numbers = np.array(numbers, dtype=np.int64)
        self.work = pixels * filters.numel()
        self.tiles = -(-pixels // min(kernels().PIXELS, pixels))


def convolve(
    plan: Plan, x: Tensor, shortcut: Tensor | None, out: Tensor | None, signs: Tensor | None
) -> None:
    """A convolution of sign bits and what follows it; every tensor without gaps.

    Args:
        plan (Plan): Of the layer.
        x (Tensor): ``(N, words of a padded image)`` of int64.
        shortcut (Tensor, optional): ``(N, H', W', C_out)`` of float32, added.
        out (Tensor, optional): Of that shape, written; None where only signs are wanted.
        signs (Tensor, optional): ``(N, words of a padded image of the next layer)``, written where pixels are.
    """
    addresses = [0 if one is None else one.data_ptr() for one in (x, shortcut, out, signs)]
    _on_threads(
        'convolve', len(x) * plan.tiles, len(x) * plan.work, plan.numbers.ctypes.data, *addresses
    )


def pack(x: Tensor, shift: Tensor, groups: int, geo: Geometry, signs: Tensor) -> None:
    """Write the sign bits of ``x + shift`` into padded images; every tensor without gaps.

    Args:
        x (Tensor): ``(N, H, W, C)`` of float32.
        shift (Tensor): ``(C,)``.
        groups (int): Of the convolution that reads them.
        geo (Geometry): Where pixels lie in a padded image.
        signs (Tensor): ``(N, words of an image)``, written where pixels are.
    """
    pixels = x.shape[1] * x.shape[2]
    addresses = [one.data_ptr() for one in (x, shift, signs, geo.places)]
    sizes = (x.shape[3], groups, pixels, geo.image_words * 8)
    _on_threads('pack', len(x) * pixels, x.numel(), *addresses, *sizes)


def _on_threads(name: str, parts: int, work: int, *arguments: int) -> None:
    """Call the loop ``name`` for all of ``parts``, on several threads where ``work`` operations are worth it."""
    compiled = kernels()
    count = min(threads(), parts)
    if count <= 1 or work < WORTH_THREADS:
        getattr(compiled, name)(*arguments, 0, parts)
        return
    # two parts for each thread, so that one which is held up holds up no other
    job = np.array([0, min(parts, 2 * count), parts, *arguments], dtype=np.int64)
    _team()(getattr(compiled, f'{name}_parts').address, job.ctypes.data, count)


WORTH_THREADS = 1 << 16
"""Below so many operations, another thread would still wake up when this one has done them."""


@cache
def _team() -> Callable[[int, int, int], None]:
    """What lets each of several threads call a function of that address with the address of a job.

    These are PyTorch's own where it has GNU's OpenMP, as on Linux: two teams would wait upon each other's cores.
    """
    try:
        parallel = ctypes.CDLL('libgomp.so.1').GOMP_parallel
    except (OSError, AttributeError):
        return _python_threads
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return lambda function, job, count: parallel(function, job, count, 0)


def _python_threads(function: int, job: int, count: int) -> None:
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    with ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(call, job) for _ in range(count - 1)]
        call(job)
    for other in others:
        other.result()
