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

from surge_mm.deploy.cpu.memory_intrinsics import (
    add_one,
    address_of,
    call,
    load,
    load_shared,
    loads,
    pack_rest,
    pack_rows,
    parities,
)
from surge_mm.deploy.cpu.tile_codegen import (
    rest_of_one,
    rest_of_pixels,
    tile_of_one,
    tile_of_pixels,
)
from surge_mm.deploy.cpu.vector_codegen import FEATURES, LANE, PIXELS, ROW, WIDE

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
    """What a convolution is told of a layer; see :class:`surge_mm.deploy.cpu.backend.Plan`.

    Addresses: ``offsets``, ``steps``, ``kinds`` and ``in_places`` of a Geometry, ``places`` of that of the next layer,
    ``filters``, ``base``, ``table``, ``shift`` and ``in_shift`` of a Plan. Counts: ``pixels`` of the output,
    ``channels`` likewise and ``width`` with what fills each group up, ``slices`` that the filters of a group are shared
    out in, ``in_pixels`` and ``in_channels``. ``n_steps`` and ``beside`` are those of :mod:`.tiles`; ``activated`` is 1
    where the table has steps behind the shortcut. Bytes: ``block_bytes`` of 16 filters, ``image_bytes`` and
    ``signs_bytes`` of a padded image of this layer and of the next.
    """

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


class Job(NamedTuple):
    """What threads share: this, then for each thread the next part to pack and the next to convolve.

    Each of ``threads`` has a run of parts of its own, the same in each layer, so that it finds in its cache what it
    wrote there; whoever is done with these takes others'. So it does not matter how many threads there are.
    ``own_number`` is the address of a function that tells a thread its number; without it, they count themselves by
    ``arrived``. ``pixels`` are packed in ``packed_parts``, ``units`` convolved in ``unit_parts``; the others are the
    addresses of :class:`Numbers` and of what they work on, 0 for what is left out.
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
"""Bytes of a job before the counters of its threads."""
fields_of_numbers, fields_of_job = loads(len(Numbers._fields)), loads(len(Job._fields))


@_compiled(njit)
def keep(array):
    """Let ``array`` live until here: Numba frees it behind its last use, and an address of it is none."""
    return array.size


@_compiled(njit)
def tiles_of_slice(layer, x, shortcut, out, signs, image, g, own_slice, first_tile, count):
    """Tiles one after another, of one image, one group g and one slice of its filters."""
    channels, width, pixels = layer.channels, layer.width, layer.pixels
    offsets, kinds, places = layer.offsets, layer.kinds, layer.places
    n_steps, beside, activated = layer.n_steps, layer.beside, layer.activated
    groups, slices = layer.groups, layer.slices
    per_group, padded = channels // groups, width // groups
    blocks = padded // ROW
    stride = channels * 4
    together = min(PIXELS, pixels)
    words, own_steps = x + image * layer.image_bytes, layer.steps + g * n_steps * 8
    to_image = signs + image * layer.signs_bytes
    # the last tile reaches back over some pixels of the one before
    furthest = pixels - together
    parity = 0  # how many words behind a word its xor with those beside it lies
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
        for block in range(own_slice * blocks // slices, (own_slice + 1) * blocks // slices):
            w = layer.filters + (g * blocks + block) * layer.block_bytes
            column = (g * padded + block * ROW) * 4
            channel = g * per_group + block * ROW
            at = (image * pixels + start) * stride + channel * 4
            own_base, own_table = layer.base + column, layer.table + column
            own_shift = layer.shift + column
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
def convolve(layer, x, shortcut, out, signs, first, last):
    """Units ``first`` to ``last``: a tile and a slice of the filters each, the tiles of an image within a slice.

    ``layer`` are :class:`Numbers`. An address of 0 is left out.
    """
    pixels, slices = layer.pixels, layer.slices
    together = min(PIXELS, pixels)
    tiles = (pixels + together - 1) // together
    index = first
    while index < last:
        tile, own_slice = index % tiles, index // tiles
        image, own_slice = own_slice // (layer.groups * slices), own_slice % (layer.groups * slices)
        # so few that the words they read stay in the cache
        count = min(tiles - tile, last - index, 32)
        tiles_of_slice(
            layer,
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
def pack(layer, x, words, first, last):
    """The sign bits of pixels ``first`` to ``last``, counted through all images, into padded images."""
    channels, groups, pixels = layer.in_channels, layer.groups, layer.in_pixels
    per_group = channels // groups
    group_bytes = (per_group + 63) // 64 * 8
    rows, rest = per_group // ROW, per_group % ROW
    to_image, pixel = words + first // pixels * layer.image_bytes, first % pixels
    own = x + first * channels * 4
    for _ in range(first, last):
        to = to_image + load(layer.in_places + pixel * 8)
        own_shift = layer.in_shift
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
            to_image, pixel = to_image + layer.image_bytes, 0


@_compiled(cfunc, types.void(types.CPointer(types.int64)))
def run_parts(address):
    """Pack parts of the pixels, wait until all are packed, and convolve parts of the units, on the calling thread."""
    at = address_of(address)
    job = Job(*fields_of_job(at))
    layer = Numbers(*fields_of_numbers(job.numbers))
    threads, packed_parts, unit_parts = job.threads, job.packed_parts, job.unit_parts
    who = call(job.own_number) if job.own_number else add_one(at)
    for i in range(threads if packed_parts else 0):
        owner = (who + i) % threads
        last_part = (owner + 1) * packed_parts // threads
        part = add_one(at + COUNTERS + owner * 16)
        while part < last_part:
            first, last = part * job.pixels // packed_parts, (part + 1) * job.pixels // packed_parts
            pack(layer, job.x, job.words, first, last)
            add_one(at + 8)
            part = add_one(at + COUNTERS + owner * 16)
    while load_shared(at + 8) < packed_parts:
        continue
    for i in range(threads):
        owner = (who + i) % threads
        last_part = (owner + 1) * unit_parts // threads
        part = add_one(at + COUNTERS + owner * 16 + 8)
        while part < last_part:
            first, last = part * job.units // unit_parts, (part + 1) * job.units // unit_parts
            convolve(layer, job.words, job.shortcut, job.out, job.signs, first, last)
            part = add_one(at + COUNTERS + owner * 16 + 8)
