"""Loops over bit-packed words, compiled by Numba for this CPU.

A convolution is computed tile by tile. A tile is a few neighboring output pixels times 16 filters, whose counts stay in
registers while the words of the window are read. Each word meets 16 filters at once by ``popcount(a ^ w)`` of 16 lanes,
one instruction on a CPU with AVX-512 VPOPCNTDQ. The epilogue (scale, batch norm, shortcut, activation, next sign bits)
is computed before the sums leave the registers. With AVX2, but without that instruction, counts are looked up instead;
see :mod:`.table_kernels`.

Addresses are passed as integers, because an array as an argument costs a microsecond. The caller keeps the arrays.
"""

from __future__ import annotations

from numba import types

from surge_mm.deploy.cpu.bitpacking import WORD, WORD_BYTES
from surge_mm.deploy.cpu.codegen.memory import (
    add_one,
    address_of,
    call,
    load,
    load_shared,
    load_tuple,
    pack_signs,
)
from surge_mm.deploy.cpu.codegen.tiles import (
    partial_tile_of_pixel,
    partial_tile_of_pixels,
    tile_of_pixel,
    tile_of_pixels,
)
from surge_mm.deploy.cpu.codegen.vectors import (
    BY_TABLES,
    BYTE_COUNTS,
    FEATURES,
    PIXELS,
    ROW,
    WIDE,
)
from surge_mm.deploy.cpu.job import Job, LayerArguments
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback
from surge_mm.deploy.cpu.table_kernels import BLOCK, tiles_by_tables

__all__ = [
    'BLOCK_FILTERS',
    'BYTE_COUNTS',
    'BY_TABLES',
    'FEATURES',
    'PIXELS',
    'ROW',
    'WIDE',
    'run_parts',
]

BLOCK_FILTERS = BLOCK if BY_TABLES else ROW
"""Filters that are counted together."""
MOST_TILES = 64 if BY_TABLES else 32
"""Tiles that are computed in sequence."""
COUNTERS = len(Job._fields) * 8
"""Bytes of a job before the counters of its threads."""
load_layer, load_job = load_tuple(len(LayerArguments._fields)), load_tuple(len(Job._fields))


@compiled
def tiles_by_popcounts(
    layer, x, shortcut, out, signs, image, group, filter_slice, first_tile, tiles
):
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
        tiles (int): Number of tiles.
    """
    channels, width, pixels = layer.channels, layer.width, layer.pixels
    offsets, borders, places = layer.offsets, layer.borders, layer.out_places
    n_steps, activated = layer.n_steps, layer.activated
    groups, slices = layer.groups, layer.slices
    per_group, padded = channels // groups, width // groups
    blocks = padded // ROW
    first_block = filter_slice * blocks // slices
    last_block = (filter_slice + 1) * blocks // slices
    stride = channels * 4
    tile_pixels = min(PIXELS, pixels)
    by_thresholds = layer.thresholds != 0 and out == 0 and shortcut == 0
    words, steps = x + image * layer.image_bytes, layer.steps + group * n_steps * 8
    image_signs = signs + image * layer.signs_bytes
    filters = layer.filters + (group * blocks + first_block) * layer.block_bytes
    for tile in range(first_tile, first_tile + tiles):
        # the last tile overlaps the one before if it would reach beyond
        start = min(tile * tile_pixels, pixels - tile_pixels)
        tile_offsets, tile_borders = offsets + start * 8, borders + start * 8
        tile_places = places + start * 8
        for block in range(first_block, last_block):
            w = filters + (block - first_block) * layer.block_bytes
            column = (group * padded + block * ROW) * 4
            channel = group * per_group + block * ROW
            position = (image * pixels + start) * stride + channel * 4
            base, table = layer.base + column, layer.table + column
            shift = layer.out_shift + column
            added = shortcut + position if shortcut else 0
            real = out + position if out else 0
            bits = image_signs + channel // 8 if signs else 0
            remaining = per_group - block * ROW
            limits = layer.thresholds + column if by_thresholds else 0
            counted = words, steps, n_steps, w, base
            finished = table, width, shift, activated, stride, bits, limits, remaining
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


tiles_of_slice = tiles_by_tables if BY_TABLES else tiles_by_popcounts


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
    line, slices = layer.line, layer.slices
    tile_pixels = min(PIXELS, line)
    tiles = layer.pixels // line * ((line + tile_pixels - 1) // tile_pixels)
    index = first
    while index < last:
        tile, filter_slice = index % tiles, index // tiles
        per_image = layer.groups * slices
        image, filter_slice = filter_slice // per_image, filter_slice % per_image
        # not more, so that the words they read stay in the cache
        count = min(tiles - tile, last - index, MOST_TILES)
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
    group_bytes = (per_group + WORD - 1) // WORD * WORD_BYTES
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
