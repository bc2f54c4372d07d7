"""Loops over bit-packed words, compiled by Numba for this CPU.

A convolution is computed tile by tile. A tile is a few neighboring output pixels times 16 filters, whose counts stay in
registers while the words of the window are read. Each word meets 16 filters at once by ``popcount(a ^ w)`` of 16 lanes,
one instruction on a CPU with AVX-512 VPOPCNTDQ. The epilogue (scale, batch norm, shortcut, activation, next sign bits)
is computed before the sums leave the registers.

Addresses are passed as integers, because an array as an argument costs a microsecond. The caller keeps the arrays.
"""

from __future__ import annotations

import numpy as np
from numba import types

from surge_mm.deploy.cpu.codegen.memory import (
    add_one,
    address_of,
    call,
    load,
    load_shared,
    load_tuple,
    pack_signs,
    parities,
)
from surge_mm.deploy.cpu.codegen.tiles import (
    partial_tile_of_pixel,
    partial_tile_of_pixels,
    tile_of_pixel,
    tile_of_pixels,
)
from surge_mm.deploy.cpu.codegen.vectors import BYTE_COUNTS, FEATURES, LANE, PIXELS, ROW, WIDE
from surge_mm.deploy.cpu.job import Job, LayerArguments
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback

__all__ = ['BYTE_COUNTS', 'FEATURES', 'LANE', 'PIXELS', 'ROW', 'WIDE', 'run_parts']

COUNTERS = len(Job._fields) * 8
"""Bytes of a job before the counters of its threads."""
load_layer, load_job = load_tuple(len(LayerArguments._fields)), load_tuple(len(Job._fields))


@compiled
def keep(array):
    """Use an array, so that Numba does not free it before this call. Numba does not see uses by address."""
    return array.size


@compiled
def tiles_of_slice(layer, x, shortcut, out, signs, image, group, filter_slice, first_tile, count):
    """Compute tiles in sequence, of one image, one group and one slice of its filters.

    Args:
        layer (LayerArguments): The layer.
        x (int): As ``Job.words``.
        shortcut (int): As ``Job.shortcut``.
        out (int): As ``Job.out``.
        signs (int): As ``Job.signs``.
        image (int): Index of the image.
        group (int): Index of the group.
        filter_slice (int): Index of the slice.
        first_tile (int): Index of the first tile.
        count (int): Number of tiles.
    """
    channels, width, pixels = layer.channels, layer.width, layer.pixels
    offsets, borders, places = layer.offsets, layer.borders, layer.out_places
    n_steps, column_step, activated = layer.n_steps, layer.column_step, layer.activated
    groups, slices = layer.groups, layer.slices
    per_group, padded = channels // groups, width // groups
    blocks = padded // ROW
    stride = channels * 4
    tile_pixels = min(PIXELS, pixels)
    words, steps = x + image * layer.image_bytes, layer.steps + group * n_steps * 8
    image_signs = signs + image * layer.signs_bytes
    # the last tile overlaps the one before if the pixels are not a multiple of its size
    last_start = pixels - tile_pixels
    parity = 0  # from a word to its XOR with the two in the next columns, in words
    if column_step:
        start = min(first_tile * tile_pixels, last_start)
        end = min((first_tile + count - 1) * tile_pixels, last_start) + tile_pixels - 1
        low = load(offsets + start * 8)
        n = load(offsets + end * 8) + load(steps + (n_steps - 1) * 8) + 1 - low
        scratch = np.empty(n, np.int64)
        parities(words + low * 8, column_step, scratch.ctypes.data, n)
        parity = (scratch.ctypes.data - words) // 8 - low

    for tile in range(first_tile, first_tile + count):
        start = min(tile * tile_pixels, last_start)
        tile_offsets, tile_borders = offsets + start * 8, borders + start * 8
        tile_places = places + start * 8
        for block in range(filter_slice * blocks // slices, (filter_slice + 1) * blocks // slices):
            w = layer.filters + (group * blocks + block) * layer.block_bytes
            column = (group * padded + block * ROW) * 4
            channel = group * per_group + block * ROW
            position = (image * pixels + start) * stride + channel * 4
            base, table = layer.base + column, layer.table + column
            shift = layer.out_shift + column
            added = shortcut + position if shortcut else 0
            real = out + position if out else 0
            bits = image_signs + channel // 8 if signs else 0
            remaining = per_group - block * ROW
            counted = words, steps, n_steps, column_step, parity, w, base
            finished = table, width, shift, activated, stride, bits, remaining
            if tile_pixels == PIXELS:
                at = tile_offsets, tile_borders, tile_places, added, real
                if remaining >= ROW:
                    tile_of_pixels(*at, *counted, *finished)
                else:
                    partial_tile_of_pixels(*at, *counted, *finished)
                continue
            for p in range(tile_pixels):
                pixel_added = added + p * stride if shortcut else 0
                pixel_real = real + p * stride if out else 0
                i = p * 8
                at = tile_offsets + i, tile_borders + i, tile_places + i, pixel_added, pixel_real
                if remaining >= ROW:
                    tile_of_pixel(*at, *counted, *finished)
                else:
                    partial_tile_of_pixel(*at, *counted, *finished)
    if column_step:
        keep(scratch)


@compiled
def convolve(layer, x, shortcut, out, signs, first, last):
    """Compute units ``first`` to ``last - 1``. Units are ordered by image, group, slice of the filters and tile.

    Args:
        layer (LayerArguments): The layer.
        x (int): As ``Job.words``.
        shortcut (int): As ``Job.shortcut``.
        out (int): As ``Job.out``.
        signs (int): As ``Job.signs``.
        first (int): Index of the first unit.
        last (int): Index after the last unit.
    """
    pixels, slices = layer.pixels, layer.slices
    tile_pixels = min(PIXELS, pixels)
    tiles = (pixels + tile_pixels - 1) // tile_pixels
    index = first
    while index < last:
        tile, filter_slice = index % tiles, index // tiles
        per_image = layer.groups * slices
        image, filter_slice = filter_slice // per_image, filter_slice % per_image
        # at most 32 tiles, so that the words they read stay in the cache
        count = min(tiles - tile, last - index, 32)
        group, filter_slice = filter_slice // slices, filter_slice % slices
        tiles_of_slice(layer, x, shortcut, out, signs, image, group, filter_slice, tile, count)
        index += count


@compiled
def pack(layer, x, words, first, last):
    """Write the sign bits of input pixels ``first`` to ``last - 1``, counted through all images, into padded images.

    Args:
        layer (LayerArguments): The layer.
        x (int): As ``Job.x``.
        words (int): As ``Job.words``.
        first (int): Index of the first pixel.
        last (int): Index after the last pixel.
    """
    channels, groups, pixels = layer.in_channels, layer.groups, layer.in_pixels
    per_group = channels // groups
    group_bytes = (per_group + 63) // 64 * 8
    image_words, pixel = words + first // pixels * layer.image_bytes, first % pixels
    values = x + first * channels * 4
    for _ in range(first, last):
        bits = image_words + load(layer.in_places + pixel * 8)
        shift = layer.in_shift
        for _ in range(groups):
            pack_signs(values, shift, bits, per_group)
            values += per_group * 4
            shift += per_group * 4
            bits += group_bytes
        pixel += 1
        if pixel == pixels:
            image_words, pixel = image_words + layer.image_bytes, 0


@compiled_callback(types.void(types.CPointer(types.int64)))
def run_parts(address):
    """Work on a job on the calling thread: pack parts, wait until all parts are packed, convolve parts."""
    at = address_of(address)
    job = Job(*load_job(at))
    layer = LayerArguments(*load_layer(job.layer))
    threads, packed_parts, unit_parts = job.threads, job.packed_parts, job.unit_parts
    own = call(job.own_number) if job.own_number else add_one(at)
    for i in range(threads if packed_parts else 0):
        owner = (own + i) % threads
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
        owner = (own + i) % threads
        last_part = (owner + 1) * unit_parts // threads
        part = add_one(at + COUNTERS + owner * 16 + 8)
        while part < last_part:
            first, last = part * job.units // unit_parts, (part + 1) * job.units // unit_parts
            convolve(layer, job.words, job.shortcut, job.out, job.signs, first, last)
            part = add_one(at + COUNTERS + owner * 16 + 8)
