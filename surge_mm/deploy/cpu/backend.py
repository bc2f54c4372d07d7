"""Which engine runs packed layers on this machine, and how a layer calls it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from surge_mm.deploy.cpu.geometry import Geometry

PLAIN = 'plain PyTorch'


@cache
def kernels() -> Any:
    """The compiled loops; None where there is no Numba, or the machine orders bytes the other way."""
    if sys.byteorder != 'little':
        return None
    try:
        from surge_mm.deploy.cpu import kernels as compiled
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


def blocked(words: Tensor, threes: bool) -> Tensor:
    """The words of filters as the loops read them; filters left over are 0.

    Where the loops take three words at a time, those of a row of the kernel, the xor of the three stands for the third.

    Shape: ``(groups, filters, kH, kW, K) -> (groups, blocks, n, filters of a block)`` of int64, n all words of a
    filter, or of int32 with twice as many.
    """
    compiled = kernels()
    if threes:
        first, second, third = words.unbind(3)
        words = torch.stack([first, second, first ^ second ^ third], dim=-1)
    if compiled.LANE == 32:
        words = words.unsqueeze(-1).view(torch.int32)
        words = words.transpose(-1, -2) if threes else words
    rows = words.flatten(2)
    rows = F.pad(rows, (0, 0, 0, row_width(rows.shape[1]) - rows.shape[1]))
    return rows.unflatten(1, (-1, compiled.ROW)).transpose(2, 3).contiguous()


def widened(table: Tensor, groups: int) -> Tensor:
    """Numbers per output channel, each group filled up: ``(rows, C_out) -> (rows, groups * width of a group)``."""
    rows = table.unflatten(1, (groups, -1))
    rows = F.pad(rows, (0, row_width(rows.shape[2]) - rows.shape[2]))
    return rows.flatten(1).contiguous()


Run = Callable[[Any, int], None]
"""Lets so many threads do a job."""


class _Share(NamedTuple):
    """How a layer is shared out: ``job(*head, *addresses of tensors, *begins)`` is a ``kernels.Job``."""

    run: Run
    threads: int
    job: Callable[..., Any]
    head: tuple[int, ...]
    begins: list[int]


class Plan:
    """A layer upon images of one size: all that its convolution reads besides the images.

    Args:
        geo (Geometry): Where the layer reads.
        size (tuple[int, int]): Height and width of the output.
        in_shift (Tensor): ``(C_in,)``, added to the input before its signs.
        filters (Tensor): As :func:`blocked` makes them.
        base (Tensor): ``(kinds, width)`` of int32: what the sum is where no bit differs, for each kind of border.
        table (Tensor): ``(9, width)`` of float32, the steps of :mod:`surge_mm.deploy.epilogue`.
        activated (bool): Whether the table has steps behind the shortcut.
        channels (int): C_out.
        shift (Tensor): ``(width,)``, the next layer's shift before its signs.
        next_geo (Geometry, optional): Where the next layer's signs go.
    """

    def __init__(
        self,
        geo: Geometry,
        size: tuple[int, int],
        in_shift: Tensor,
        filters: Tensor,
        base: Tensor,
        table: Tensor,
        activated: bool,
        channels: int,
        shift: Tensor,
        next_geo: Geometry | None,
    ) -> None:
        self.size = size
        # the addresses are theirs
        self._owners = (geo, in_shift, filters, base, table, shift, next_geo)
        compiled = kernels()
        groups, blocks = filters.shape[:2]
        pixels = len(geo.offsets)
        tiles = -(-pixels // min(compiled.PIXELS, pixels))
        # a small image has too few tiles to share them out evenly
        slices = min(blocks, -(-ENOUGH_UNITS // (tiles * groups)))
        numbers = compiled.Numbers(
            offsets=geo.offsets.data_ptr(),
            steps=geo.steps.data_ptr(),
            n_steps=geo.steps.shape[1],
            beside=geo.beside,
            image_bytes=geo.image_words * 8,
            pixels=pixels,
            filters=filters.data_ptr(),
            groups=groups,
            block_bytes=filters[0, 0].nbytes,
            base=base.data_ptr(),
            kinds=geo.kinds.data_ptr(),
            table=table.data_ptr(),
            width=table.shape[1],
            channels=channels,
            slices=slices,
            activated=activated,
            shift=shift.data_ptr(),
            places=next_geo.places.data_ptr() if next_geo else 0,
            signs_bytes=next_geo.image_words * 8 if next_geo else 0,
            in_shift=in_shift.data_ptr(),
            in_places=geo.places.data_ptr(),
            in_channels=len(in_shift),
            in_pixels=len(geo.places),
        )
        self._numbers = (ctypes.c_int64 * len(numbers))(*numbers)
        self._address = ctypes.addressof(self._numbers)
        self._units = tiles * groups * slices
        self._pixels = len(geo.places)
        self._work = pixels * filters.numel()
        self._packing = self._pixels * len(in_shift)
        self._shares: dict[tuple[int, bool, bool, int], _Share] = {}

    def run(
        self,
        images: int,
        x: Tensor | None,
        words: Tensor,
        shortcut: Tensor | None,
        out: Tensor | None,
        signs: Tensor | None,
    ) -> None:
        """A convolution of sign bits and what follows it; every tensor dense, in the format channels_last.

        Args:
            images (int): N.
            x (Tensor, optional): ``(N, C_in, H, W)`` of float32, whose sign bits are first written into ``words``.
            words (Tensor): ``(N, words of a padded image)`` of int64.
            shortcut (Tensor, optional): ``(N, C_out, H', W')`` of float32, added.
            out (Tensor, optional): Of that shape, written; None where only signs are wanted.
            signs (Tensor, optional): ``(N, words of a padded image of the next layer)``, written where pixels are.
        """
        self._start(self._share(images, x is not None, True), x, words, shortcut, out, signs)

    def pack(self, images: int, x: Tensor, words: Tensor) -> None:
        """Only write the sign bits of ``x`` into ``words``, as :meth:`run` does."""
        self._start(self._share(images, True, False), x, words, None, None, None)

    def _start(self, share: _Share, *tensors: Tensor | None) -> None:
        addresses = [0 if one is None else one.data_ptr() for one in tensors]
        share.run(share.job(*share.head, *addresses, *share.begins), share.threads)

    def _share(self, images: int, packs: bool, convolves: bool) -> _Share:
        """How so many images are shared out to threads."""
        key = images, packs, convolves, threads()
        found = self._shares.get(key)
        if found is None:
            if len(self._shares) > 64:
                self._shares.clear()
            found = self._shares[key] = self._new_share(*key)
        return found

    def _new_share(self, images: int, packs: bool, convolves: bool, count: int) -> _Share:
        pixels = images * self._pixels if packs else 0
        units = images * self._units if convolves else 0
        work = images * (self._packing * packs + self._work * convolves)
        if work < WORTH_THREADS:
            count = 1
        # several parts for each thread, so that one which is held up holds up no other
        packed_parts, unit_parts = min(pixels, PARTS * count), min(units, PARTS * count)
        begins = []
        for owner in range(count):
            begins += [owner * packed_parts // count, owner * unit_parts // count]
        run, own_number = _team() if count > 1 else (_alone(), 0)
        return _Share(
            run,
            count,
            ctypes.c_int64 * (len(kernels().Job._fields) + 2 * count),
            (0, 0, count, own_number, packed_parts, unit_parts, pixels, units, self._address),
            begins,
        )


ENOUGH_UNITS = 28
"""Parts of a layer that can be given to threads, at least."""
PARTS = 2
"""Parts of a layer for each thread."""
WORTH_THREADS = 1 << 16
"""Below so many operations, another thread would still wake up when this one has done them."""


@cache
def _alone() -> Run:
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernels().run_parts.address)
    return lambda job, count: call(job)


@cache
def _team() -> tuple[Run, int]:
    """A team of threads, and the address of the function that tells one its number in it, if there is one.

    The team is PyTorch's own where it has GNU's OpenMP, as on Linux: two teams would wait upon each other's cores.
    """
    function = kernels().run_parts.address
    try:
        library = ctypes.CDLL('libgomp.so.1')
        parallel, own_number = library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, AttributeError):
        return _python_threads, 0
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    address = ctypes.cast(own_number, ctypes.c_void_p).value
    return lambda job, count: parallel(function, job, count, 0), address or 0


def _python_threads(job: Any, count: int) -> None:
    run = _alone()
    with ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(run, job, 1) for _ in range(count - 1)]
        run(job, 1)
    for other in others:
        other.result()
