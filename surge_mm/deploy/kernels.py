"""The loops over packed words, compiled by Numba for the CPU at hand.

A convolution goes tile by tile: a few neighbours times 16 filters, whose counts stay in registers while the words of
the window pass by. A word meets 16 filters at once: ``popcount(a ^ w)`` of 16 lanes, one instruction on a CPU with
AVX-512 VPOPCNTDQ. What follows the sums (scale, batch norm, shortcut, activation, the next layer's sign bits) is done
before they leave the registers.

Addresses are passed as whole numbers: an array as an argument costs a microsecond. Who calls keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, njit, types

from .vectors import (
    FEATURES,
    LANE,
    PIXELS,
    ROW,
    WIDE,
    add_one,
    address_of,
    call,
    load,
    load_shared,
    pack_rest,
    pack_rows,
    parities,
    rest_of_one,
    rest_of_pixels,
    tile_of_one,
    tile_of_pixels,
)

__all__ = ['FEATURES', 'LANE', 'PIXELS', 'ROW', 'WIDE', 'Job', 'Numbers', 'run_parts']


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
    steps: int
    n_steps: int
    beside: int
    image_bytes: int
    pixels: int
    filters: int
    groups: int
    block_bytes: int
    base: int
    kinds: int
    table: int
    width: int
    channels: int
    slices: int
    activated: int
    shift: int
    places: int
    signs_bytes: int
    in_shift: int
    in_places: int
    in_channels: int
    in_pixels: int


@_compiled(njit)
def keep(array):
    """Let ``array`` live until here: Numba frees it behind its last use, and an address of it is none."""
    return array.size


@_compiled(njit)
def tiles_of_slice(numbers, x, shortcut, out, signs, image, g, part, first_tile, count):
    """Tiles one after another, of one image, one group and one slice of its filters."""
    offsets, steps, n_steps = load(numbers), load(numbers + 8), load(numbers + 16)
    beside, image_bytes, pixels = load(numbers + 24), load(numbers + 32), load(numbers + 40)
    filters, groups, block_bytes = load(numbers + 48), load(numbers + 56), load(numbers + 64)
    base, kinds, table = load(numbers + 72), load(numbers + 80), load(numbers + 88)
    width, channels, slices = load(numbers + 96), load(numbers + 104), load(numbers + 112)
    activated, shift, places = load(numbers + 120), load(numbers + 128), load(numbers + 136)
    signs_bytes = load(numbers + 144)
    per_group, padded = channels // groups, width // groups
    blocks = padded // ROW
    stride = channels * 4
    together = min(PIXELS, pixels)
    words, own_steps = x + image * image_bytes, steps + g * n_steps * 8
    to_image = signs + image * signs_bytes
    # the last tile reaches back over some pixels of the one before
    furthest = pixels - together
    parity = 0
    if beside:
        start = min(first_tile * together, furthest)
        end = min((first_tile + count - 1) * together, furthest) + together - 1
        low = load(offsets + start * 8)
        n = load(offsets + end * 8) + load(own_steps + (n_steps - 1) * 8) + 1 - low
        room = np.empty(n, np.int64)
        parities(words + low * 8, beside, room.ctypes.data, n)
        parity = (room.ctypes.data - words) // 8 - low

    for tile in range(first_tile, first_tile + count):
        start = min(tile * together, furthest)
        here, kinds_here, places_here = offsets + start * 8, kinds + start * 8, places + start * 8
        for block in range(part * blocks // slices, (part + 1) * blocks // slices):
            w = filters + (g * blocks + block) * block_bytes
            column = (g * padded + block * ROW) * 4
            channel = g * per_group + block * ROW
            at = (image * pixels + start) * stride + channel * 4
            own_base, own_table, own_shift = base + column, table + column, shift + column
            added = shortcut + at if shortcut else 0
            real = out + at if out else 0
            bits = to_image + channel // 8 if signs else 0
            some = per_group - block * ROW
            if together == PIXELS:
                if some >= ROW:
                    tile_of_pixels(
                        *(words, here, own_steps, n_steps, beside, parity, w, own_base),
                        *(kinds_here, own_table, width, own_shift, activated),
                        *(added, real, stride, bits, places_here, some),
                    )
                else:
                    rest_of_pixels(
                        *(words, here, own_steps, n_steps, beside, parity, w, own_base),
                        *(kinds_here, own_table, width, own_shift, activated),
                        *(added, real, stride, bits, places_here, some),
                    )
                continue
            for p in range(together):
                own_added = added + p * stride if shortcut else 0
                own_real = real + p * stride if out else 0
                if some >= ROW:
                    tile_of_one(
                        *(words, here + p * 8, own_steps, n_steps, beside, parity, w, own_base),
                        *(kinds_here + p * 8, own_table, width, own_shift, activated),
                        *(own_added, own_real, stride, bits, places_here + p * 8, some),
                    )
                else:
                    rest_of_one(
                        *(words, here + p * 8, own_steps, n_steps, beside, parity, w, own_base),
                        *(kinds_here + p * 8, own_table, width, own_shift, activated),
                        *(own_added, own_real, stride, bits, places_here + p * 8, some),
                    )
    if beside:
        keep(room)


@_compiled(njit)
def convolve(numbers, x, shortcut, out, signs, first, last):
    """Units ``first`` to ``last``: a tile and a slice of the filters each, the tiles of an image within a slice.

    ``numbers`` is the address of :class:`Numbers`. An address of 0 is left out.
    """
    pixels, groups, slices = load(numbers + 40), load(numbers + 56), load(numbers + 112)
    together = min(PIXELS, pixels)
    tiles = (pixels + together - 1) // together
    index = first
    while index < last:
        tile, own_slice = index % tiles, index // tiles
        image, own_slice = own_slice // (groups * slices), own_slice % (groups * slices)
        # so few that the words they read stay in the cache
        count = min(tiles - tile, last - index, 32)
        tiles_of_slice(
            numbers,
            x,
            shortcut,
            out,
            signs,
            image,
            own_slice // slices,
            own_slice % slices,
            tile,
            count,
        )
        index += count


@_compiled(njit)
def pack(numbers, x, words, first, last):
    """The sign bits of pixels ``first`` to ``last``, counted through all images, into padded images."""
    image_bytes, groups = load(numbers + 32), load(numbers + 56)
    shift, places = load(numbers + 152), load(numbers + 160)
    channels, pixels = load(numbers + 168), load(numbers + 176)
    per_group = channels // groups
    group_bytes = (per_group + 63) // 64 * 8
    rows, rest = per_group // ROW, per_group % ROW
    to_image, pixel = words + first // pixels * image_bytes, first % pixels
    own = x + first * channels * 4
    for _ in range(first, last):
        to = to_image + load(places + pixel * 8)
        own_shift = shift
        for _ in range(groups):
            pack_rows(own, own_shift, to, rows)
            if rest:
                done = rows * ROW
                pack_rest(own + done * 4, own_shift + done * 4, to + done // 8, rest)
            own += per_group * 4
            own_shift += per_group * 4
            to += group_bytes
        pixel += 1
        if pixel == pixels:
            to_image, pixel = to_image + image_bytes, 0


class Job(NamedTuple):
    """What threads share: this, then for each thread the next part to pack and the next to convolve.

    Each of ``threads`` has a run of parts of its own, the same in each layer, so that it finds in its cache what it
    wrote there; whoever is done with these takes others'. So it does not matter how many threads there are.
    ``own_number`` is the address of a function that tells a thread its number; without it, they count themselves.
    """

    arrived: int
    done_packed: int
    threads: int
    own_number: int
    packed_parts: int
    unit_parts: int
    pixels: int
    units: int
    numbers: int
    x: int
    words: int
    shortcut: int
    out: int
    signs: int


COUNTERS = len(Job._fields) * 8


@_compiled(cfunc, types.void(types.CPointer(types.int64)))
def run_parts(job):
    """Pack parts of the pixels, wait until all are packed, and convolve parts of the units, on the calling thread."""
    at = address_of(job)
    threads, own_number = job[2], job[3]
    packed_parts, unit_parts, pixels, units = job[4], job[5], job[6], job[7]
    numbers, x, words, shortcut, out, signs = job[8], job[9], job[10], job[11], job[12], job[13]
    who = call(own_number) if own_number else add_one(at)
    for i in range(threads if packed_parts else 0):
        owner = (who + i) % threads
        last_part = (owner + 1) * packed_parts // threads
        part = add_one(at + COUNTERS + owner * 16)
        while part < last_part:
            first, last = part * pixels // packed_parts, (part + 1) * pixels // packed_parts
            pack(numbers, x, words, first, last)
            add_one(at + 8)
            part = add_one(at + COUNTERS + owner * 16)
    while load_shared(at + 8) < packed_parts:
        continue
    for i in range(threads):
        owner = (who + i) % threads
        last_part = (owner + 1) * unit_parts // threads
        part = add_one(at + COUNTERS + owner * 16 + 8)
        while part < last_part:
            first, last = part * units // unit_parts, (part + 1) * units // unit_parts
            convolve(numbers, words, shortcut, out, signs, first, last)
            part = add_one(at + COUNTERS + owner * 16 + 8)
