"""The loops over packed words, compiled by Numba for the CPU at hand.

A convolution goes tile by tile: ``PIXELS`` neighbours times ``8 * VECTORS`` filters, whose counts stay in registers
while the words of the window pass by. A word of 64 input channels meets 8 filters at once: ``popcount(a ^ w)`` of eight
64-bit lanes, one instruction on a CPU with AVX-512 VPOPCNTDQ. What follows the sums (scale, batch norm, shortcut,
activation, the next layer's sign bits) is done on a row of counts while it is in the cache.

Addresses are passed as whole numbers: an array as an argument costs a microsecond. Who calls keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, njit, types

from .vectors import (
    FEATURES,
    LANES,
    PIXELS,
    ROW,
    VECTORS,
    WIDE,
    address_of,
    copy,
    finish,
    load,
    pack_row,
    take_one,
    tile_of_one,
    tile_of_pixels,
)

__all__ = [
    'FEATURES', 'LANES', 'PIXELS', 'VECTORS', 'WIDE', 'Numbers', 'convolve', 'convolve_parts', 'pack', 'pack_parts'
]  # fmt: skip


def _compiled(how: Any, *signature: Any) -> Any:
    """``njit`` or ``cfunc`` with what it makes kept on the disk, where there is a place for it."""

    def decorate(function: Any) -> Any:
        options = {'nogil': True} if how is njit else {}
        try:
            return how(*signature, cache=True, **options)(function)
        except RuntimeError:  # no folder is writable
            return how(*signature, **options)(function)

    return decorate


class Numbers(NamedTuple):
    """What a convolution is told of a layer, addresses and sizes; see :class:`surge_mm.deploy.engine.Plan`."""

    offsets: int
    taps: int
    n_taps: int
    run: int
    image_bytes: int
    pixels: int
    filters: int
    groups: int
    blocks: int
    steps: int
    base: int
    kinds: int
    table: int
    width: int
    channels: int
    shift: int
    places: int
    signs_bytes: int


@_compiled(njit)
def convolve(numbers, x, shortcut, out, signs, first, last):
    """Tiles ``first`` to ``last``, counted through all images; ``numbers`` is the address of :class:`Numbers`.

    An address of 0 is left out.
    """
    offsets, taps, n_taps = load(numbers), load(numbers + 8), load(numbers + 16)
    run, image_bytes, pixels = load(numbers + 24), load(numbers + 32), load(numbers + 40)
    filters, groups, blocks = load(numbers + 48), load(numbers + 56), load(numbers + 64)
    steps, base, kinds = load(numbers + 72), load(numbers + 80), load(numbers + 88)
    table, width, channels = load(numbers + 96), load(numbers + 104), load(numbers + 112)
    shift, places, signs_bytes = load(numbers + 120), load(numbers + 128), load(numbers + 136)
    filter_bytes = steps * LANES * VECTORS * 8
    per_group, padded = channels // groups, width // groups
    whole, stride = per_group // ROW * ROW, channels * 4
    left_over, done = (per_group - whole) * 4, whole * 4
    together = min(PIXELS, pixels)
    tiles = (pixels + together - 1) // together
    room = np.empty(PIXELS * width + 2 * ROW, np.int32)
    counts = room.ctypes.data
    rest = counts + PIXELS * width * 4
    rest_beside = rest + ROW * 4

    for index in range(first, last):
        image = index // tiles
        # the last tile reaches back over some pixels of the one before
        start = min(index % tiles * together, pixels - together)
        words = x + image * image_bytes
        for g in range(groups):
            own_taps = taps + g * n_taps * 8
            for block in range(blocks):
                w = filters + (g * blocks + block) * filter_bytes
                to = counts + (g * padded + block * LANES * VECTORS) * 4
                if together == PIXELS:
                    tile_of_pixels(
                        words, offsets + start * 8, own_taps, n_taps, run, w, to, width * 4
                    )
                else:
                    for p in range(together):
                        at = offsets + (start + p) * 8
                        tile_of_one(words, at, own_taps, n_taps, run, w, to + p * width * 4, 0)
        kinds_here, places_here = kinds + start * 8, places + start * 8
        for g in range(groups):
            own = g * padded * 4
            at = ((image * pixels + start) * channels + g * per_group) * 4
            beside = shortcut + at if shortcut else 0
            real = out + at if out else 0
            bits = signs + image * signs_bytes + g * per_group // 8 if signs else 0
            rows, rows_base, steps_here, shift_here = (
                counts + own,
                base + own,
                table + own,
                shift + own,
            )
            finish(
                *(rows, width, rows_base, kinds_here, steps_here, shift_here, beside, real, stride),
                *(bits, places_here, whole // ROW, together),
            )
            for p in range(together if left_over else 0):
                if shortcut:
                    copy(rest_beside, beside + done + p * stride, left_over)
                row, own_rest = rows + done + p * width * 4, rest_beside if shortcut else 0
                finish(
                    *(
                        row,
                        width,
                        rows_base + done,
                        kinds_here + p * 8,
                        steps_here + done,
                        shift_here,
                    ),
                    *(own_rest, rest, 0, 0, places_here, 1, 1),
                )
                copy(real + done + p * stride, rest, left_over)


@_compiled(njit)
def pack(x, shift, signs, places, channels, groups, pixels, image_bytes, first, last):
    """The sign bits of pixels ``first`` to ``last``, counted through all images."""
    per_group = channels // groups
    group_bytes = (per_group + 63) // 64 * 8
    whole = per_group // ROW * ROW
    left_over = per_group - whole
    room = np.zeros(2 * ROW + 1, np.float32)
    rest = room.ctypes.data
    rest_shift, rest_bits = rest + ROW * 4, rest + 2 * ROW * 4
    for index in range(first, last):
        image, pixel = index // pixels, index % pixels
        to_pixel = signs + image * image_bytes + load(places + pixel * 8)
        for g in range(groups):
            channel = g * per_group
            own, own_shift = x + (index * channels + channel) * 4, shift + channel * 4
            to = to_pixel + g * group_bytes
            pack_row(own, own_shift, to, whole // ROW)
            if left_over:  # what lies behind in the row of 16 is +0.0, whose bit is 0
                copy(rest, own + whole * 4, left_over * 4)
                copy(rest_shift, own_shift + whole * 4, left_over * 4)
                pack_row(rest, rest_shift, rest_bits, 1)
                copy(to + whole // 8, rest_bits, (left_over + 7) // 8)


JOB = types.void(types.CPointer(types.int64))
"""What threads share: the next part and the number of parts, how many tiles or pixels there are, then the arguments.

Each thread takes the next part until there is none, so it does not matter how many there are.
"""


@_compiled(cfunc, JOB)
def convolve_parts(job):
    """Parts of a convolution, on the thread that calls."""
    parts, total, numbers, x, shortcut, out, signs = (
        job[1],
        job[2],
        job[3],
        job[4],
        job[5],
        job[6],
        job[7],
    )
    part = take_one(address_of(job))
    while part < parts:
        convolve(
            numbers, x, shortcut, out, signs, part * total // parts, (part + 1) * total // parts
        )
        part = take_one(address_of(job))


@_compiled(cfunc, JOB)
def pack_parts(job):
    """Parts of the pixels, on the thread that calls."""
    parts, total = job[1], job[2]
    x, shift, signs, places = job[3], job[4], job[5], job[6]
    channels, groups, pixels, image_bytes = job[7], job[8], job[9], job[10]
    part = take_one(address_of(job))
    while part < parts:
        first, last = part * total // parts, (part + 1) * total // parts
        pack(x, shift, signs, places, channels, groups, pixels, image_bytes, first, last)
        part = take_one(address_of(job))
