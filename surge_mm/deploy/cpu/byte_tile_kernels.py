"""Convolution of bytes by AVX-512 or AVX2, compiled by Numba: exact sums and their epilogue in one pass.

It is computed tile by tile; see :mod:`.codegen.byte_tiles`. The bytes of the windows are first gathered in the order in
which they are read, once for all filters. A max pool reads the rows of the convolution while they are in the cache. The
module can be imported on CPUs with these instructions alone.
"""

from __future__ import annotations

import numpy as np
from numba import types

from surge_mm.deploy.cpu.byte_kernels import pool_row, window_rows
from surge_mm.deploy.cpu.codegen.byte_tiles import (
    BLOCKS,
    PIXELS,
    STEP_BYTES,
    gather_step,
    gather_steps,
    partial_tile,
    tile_of_block,
    tile_of_blocks,
)
from surge_mm.deploy.cpu.codegen.memory import add_one, address_of, keep, load_tuple, store
from surge_mm.deploy.cpu.codegen.vectors import ROW
from surge_mm.deploy.cpu.job import BytePass
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback

load_pass = load_tuple(len(BytePass._fields))


@compiled
def convolve_tile(job, x, first, pixels, tile, out, windows):
    """Compute the filters of a tile of consecutive pixels. The last tile overlaps the one before, not to reach beyond.

    Args:
        job (BytePass): The pass.
        x (int): Address of the image.
        first (int): Index of the first pixel of those that are divided into tiles.
        pixels (int): Number of them.
        tile (int): Index of the tile.
        out (int): Address of the output of the first pixel.
        windows (int): Address of memory for the bytes of the windows of a tile, ``(n_steps, PIXELS, 4)``.
    """
    start = max(min(tile * PIXELS, pixels - PIXELS), 0)
    row_bytes, last = job.channels * 4, min(PIXELS, pixels) - 1
    out += start * row_bytes
    gathered = x, job.offsets + (first + start) * 8, last, job.steps, job.firsts, job.n_firsts
    if job.together:
        gather_steps(*gathered, windows)
    else:
        gather_step(*gathered, windows)
    channel = 0
    while channel < job.channels:
        w, remaining = job.filters + channel * job.n_steps * STEP_BYTES, job.channels - channel
        at = channel * 4
        read = windows, job.n_steps, w, job.table + at, job.activates
        to = out + at, row_bytes, last, remaining
        if remaining >= BLOCKS * ROW:
            tile_of_blocks(*read, *to)
            channel += BLOCKS * ROW
            continue
        if remaining >= ROW:
            tile_of_block(*read, *to)
        else:
            partial_tile(*read, *to)
        channel += ROW


@compiled
def convolve_and_pool_rows(job, ring, addresses, windows, first, last):
    """Convolve and pool output rows in sequence.

    Args:
        job (BytePass): A pass with a pool.
        ring (int): Address of ``pool_height`` rows of the convolution.
        addresses (int): Address of the addresses of the rows of a window of the pool.
        windows (int): As for :func:`convolve_tile`.
        first (int): Index of the first row, counted through all images.
        last (int): Index after the last row.
    """
    rows = (job.height + 2 * job.pool_top - job.pool_height) // job.pool_step_y + 1
    row_bytes = job.width * job.channels * 4
    done = -1
    for i in range(first, last):
        image, row = i // rows, i % rows
        if row == 0:
            done = -1
        top, bottom = window_rows(job, row)
        for y in range(top, bottom):
            convolved = ring + y % job.pool_height * row_bytes
            store(addresses + (y - top) * 8, convolved)
            if y > done:
                x, pixel = job.x + image * job.image_bytes, y * job.width
                for tile in range((job.width + PIXELS - 1) // PIXELS):
                    convolve_tile(job, x, pixel, job.width, tile, convolved, windows)
                done = y
        pool_row(job, i, addresses, bottom - top)


@compiled_callback(types.void(types.CPointer(types.int64)))
def convolve_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.BytePass` without a pool on the calling thread."""
    at = address_of(address)
    job = BytePass(*load_pass(at))
    windows = np.empty(job.n_steps * PIXELS, np.int32)
    pixels = job.height * job.width
    tiles = (pixels + PIXELS - 1) // PIXELS
    part = add_one(at)
    while part < job.parts:
        for unit in range(part * job.units // job.parts, (part + 1) * job.units // job.parts):
            image = unit // tiles
            x, out = job.x + image * job.image_bytes, job.out + image * pixels * job.channels * 4
            convolve_tile(job, x, 0, pixels, unit % tiles, out, windows.ctypes.data)
        part = add_one(at)
    keep(windows)


@compiled_callback(types.void(types.CPointer(types.int64)))
def convolve_and_pool_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.BytePass` with a pool on the calling thread."""
    at = address_of(address)
    job = BytePass(*load_pass(at))
    windows = np.empty(job.n_steps * PIXELS, np.int32)
    buffer = np.empty(job.pool_height * (job.width * job.channels + 2), np.float32)
    addresses = buffer.ctypes.data
    ring = addresses + job.pool_height * 8
    part = add_one(at)
    while part < job.parts:
        first, last = part * job.units // job.parts, (part + 1) * job.units // job.parts
        convolve_and_pool_rows(job, ring, addresses, windows.ctypes.data, first, last)
        part = add_one(at)
    keep(windows)
    keep(buffer)
