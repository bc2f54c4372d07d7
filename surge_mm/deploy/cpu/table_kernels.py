"""Loops of a convolution whose counts are looked up, for CPUs with AVX2; see :mod:`.codegen.table_counts`.

Counts of up to 16 pixels of a row of the output are kept in memory, for 64 filters at a time, whose bits are read from
the first cache for all pairs but the first. The epilogue then goes over these pixels.
"""

from __future__ import annotations

import numpy as np

from surge_mm.deploy.cpu.bitpacking import WORD_BYTES
from surge_mm.deploy.cpu.codegen.memory import keep, load
from surge_mm.deploy.cpu.codegen.table_counts import (
    BLOCK,
    MOST_PIXELS,
    PIXEL_BYTES,
    ROW_BYTES,
    count_block,
    count_blocks,
    pair_indices,
)
from surge_mm.deploy.cpu.codegen.table_epilogue import LANES, finish_few_filters, finish_filters
from surge_mm.deploy.cpu.codegen.vectors import PIXELS, ROW
from surge_mm.deploy.cpu.kernel_cache import compiled

__all__ = ['BLOCK', 'tiles_by_tables']

BLOCK_ROWS = BLOCK // ROW
MOST_TILES = MOST_PIXELS // PIXELS
"""Tiles whose counts are kept."""


@compiled
def first_pixel(tile, line, tile_pixels):
    """Return the first pixel of a tile. The last tile of a line overlaps the one before if it would reach beyond.

    Args:
        tile (int): Index of the tile.
        line (int): As ``LayerArguments.line``.
        tile_pixels (int): Pixels of a tile.
    """
    per_line = (line + tile_pixels - 1) // tile_pixels
    return tile // per_line * line + min(tile % per_line * tile_pixels, line - tile_pixels)


@compiled
def count_pairs(
    counts, indices, offsets, start, last, tiles, plane, steps, n_steps, w, block_bytes, blocks
):
    """Count for consecutive pairs of pixels and one or two blocks of filters.

    Args:
        counts (int): Address of the counts, int32, ``(rows, 16 pixels, 16)``.
        indices (int): Address of the first index of a pair whose offset is 0.
        offsets (int): As ``LayerArguments.offsets``.
        start (int): Index of the first pixel.
        last (int): Index of the first pixel of the last pair, which may overlap the one before.
        tiles (int): Number of pairs.
        plane (int): Bytes from a plane of the indices to the next one.
        steps (int): As ``LayerArguments.steps``.
        n_steps (int): As ``LayerArguments.n_steps``.
        w (int): Address of the first block.
        block_bytes (int): As ``LayerArguments.block_bytes``.
        blocks (int): Number of blocks.
    """
    for tile in range(tiles):
        pixel = min(start + tile * PIXELS, last)
        to = counts + (pixel - start) * PIXEL_BYTES
        pair = indices + load(offsets + pixel * 8) * WORD_BYTES
        if blocks > 1:
            count_blocks(to, pair, plane, steps, n_steps, w, block_bytes)
        else:
            count_block(to, pair, plane, steps, n_steps, w, block_bytes)


@compiled
def finish_rows(
    layer, counts, shortcut, out, signs, image, group, start, pixels, first_row, last_row
):
    """Compute outputs and signs of consecutive pixels from the counts of rows of 16 filters.

    Args:
        layer (LayerArguments): The layer.
        counts (int): Address of the counts, int32, ``(rows, 16 pixels, 16)``.
        shortcut (int): As ``Job.shortcut``.
        out (int): As ``Job.out``.
        signs (int): As ``Job.signs``.
        image (int): Index of the image.
        group (int): Index of the group.
        start (int): Index of the first pixel.
        pixels (int): Number of pixels.
        first_row (int): Index of the first row.
        last_row (int): Index after the last row.
    """
    channels, groups, width = layer.channels, layer.groups, layer.width
    per_group, padded = channels // groups, width // groups
    stride = channels * 4
    position = (image * layer.pixels + start) * stride
    borders, places = layer.borders + start * 8, layer.out_places + start * 8
    limits = layer.thresholds if out == 0 and shortcut == 0 else 0
    for lane in range(first_row * ROW, last_row * ROW, LANES):
        column, channel = (group * padded + lane) * 4, group * per_group + lane
        added = shortcut + position + channel * 4 if shortcut else 0
        real = out + position + channel * 4 if out else 0
        bits = signs + image * layer.signs_bytes + channel // 8 if signs else 0
        own = limits + column if limits else 0
        base, table, shift = layer.base + column, layer.table + column, layer.out_shift + column
        at = counts, pixels, borders, places, added, real
        rest = base, table, width, shift, layer.activated, stride, bits, own
        remaining = per_group - lane
        if remaining >= LANES:
            finish_filters(*at, *rest, LANES)
        else:
            finish_few_filters(*at, *rest, max(remaining, 0))
        counts += LANES * 4
        if lane // LANES % 2:
            counts += ROW_BYTES - ROW * 4


@compiled
def tiles_by_tables(layer, x, shortcut, out, signs, image, group, filter_slice, first_tile, tiles):
    """Compute tiles of two pixels in sequence, of one image, one group and one slice of its filters.

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
    line, n_steps, offsets = layer.line, layer.n_steps, layer.offsets
    rows = layer.width // layer.groups // ROW
    blocks = (rows + BLOCK_ROWS - 1) // BLOCK_ROWS
    first_block = filter_slice * blocks // layer.slices
    last_block = (filter_slice + 1) * blocks // layer.slices
    filters = layer.filters + group * blocks * layer.block_bytes
    steps = layer.steps + group * n_steps * 8
    tile_pixels = min(PIXELS, line)
    per_line = (line + tile_pixels - 1) // tile_pixels

    end = first_tile + tiles
    start = first_pixel(first_tile, line, tile_pixels)
    last = first_pixel(end - 1, line, tile_pixels)
    low = load(offsets + start * 8)
    n = load(offsets + last * 8) + load(steps + (n_steps - 1) * 8) + 1 - low
    distance = load(offsets + (start + tile_pixels - 1) * 8) - low
    plane = n * WORD_BYTES
    scratch = np.empty(4 * n + 2 * BLOCK_ROWS * ROW_BYTES // 4 + 32, np.int32)
    words = x + image * layer.image_bytes + low * WORD_BYTES
    pair_indices(words, distance, scratch.ctypes.data, n)
    indices = scratch.ctypes.data - low * WORD_BYTES
    counts = scratch.ctypes.data + 4 * plane

    tile = first_tile
    while tile < end:
        in_line, line_end = tile % per_line, (tile // per_line + 1) * line
        # not beyond the line, so that the pixels are consecutive
        batch = min(min(MOST_TILES, end - tile), per_line - in_line)
        start = min(line_end - line + in_line * tile_pixels, line_end - tile_pixels)
        last = min(start + (batch - 1) * tile_pixels, line_end - tile_pixels)
        pixels = last + tile_pixels - start
        for block in range(first_block, last_block, 2):
            both = min(2, last_block - block)
            w = filters + block * layer.block_bytes
            window = plane, steps, n_steps, w, layer.block_bytes, both
            count_pairs(counts, indices, offsets, start, last, batch, *window)
            first_row, last_row = block * BLOCK_ROWS, min((block + both) * BLOCK_ROWS, rows)
            at = image, group, start, pixels, first_row, last_row
            finish_rows(layer, counts, shortcut, out, signs, *at)
        tile += batch
    keep(scratch)
