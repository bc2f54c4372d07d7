"""Passes before a convolution of bytes and after a real-valued one, compiled by Numba: quantization and epilogue.

Both are computed in float32. For bytes, each operation is rounded, so that every CPU gives the same bits. Several
threads share a pass: each takes the next part of its rows until none is left. Addresses are passed as integers.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types

from surge_mm.deploy.cpu.codegen.epilogue import (
    finish_channels,
    finish_few_channels,
    pool_channels,
)
from surge_mm.deploy.cpu.codegen.memory import add_one, address_of, keep, load_tuple, pointer, store
from surge_mm.deploy.cpu.codegen.quantization import quantize_row
from surge_mm.deploy.cpu.codegen.vectors import ROW
from surge_mm.deploy.cpu.job import EpiloguePass, QuantizationPass
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback

load_quantization = load_tuple(len(QuantizationPass._fields))
load_epilogue = load_tuple(len(EpiloguePass._fields))
TILE = 16
"""Pixels that are finished together."""


@compiled
def floats(address, count):
    """Return consecutive float32 at an address as an array.

    Args:
        address (int): The address.
        count (int): Number of them.
    """
    return carray(pointer(address), (count,), np.float32)


@compiled
def fill(out, count, value):
    """Write one byte ``count`` times.

    Args:
        out (int): Address of the bytes.
        count (int): Number of them.
        value (uint8): The byte.
    """
    bytes_ = carray(pointer(out), (count,), np.uint8)
    for i in range(count):
        bytes_[i] = value


@compiled
def finish_pixels(sums, out, table, pixels, channels, activates):
    """Write the outputs of consecutive pixels.

    Args:
        sums (int): Address of the sums, ``(pixels, channels)``, float32.
        out (int): Address of the outputs, which may be the same.
        table (int): Address of the table of the epilogue, ``(9, channels)``, float32.
        pixels (int): Number of pixels.
        channels (int): Output channels, C_out.
        activates (int): 1 if the table has steps after a2.
    """
    row = channels * 4
    for first in range(
        0, pixels, TILE
    ):  # a tile stays in the cache while its channels are computed
        count = min(TILE, pixels - first)
        for channel in range(0, channels, ROW):
            at = first * row + channel * 4
            steps = table + channel * 4, row, count, activates, channels - channel
            if channels - channel >= ROW:
                finish_channels(sums + at, out + at, *steps)
            else:
                finish_few_channels(sums + at, out + at, *steps)


@compiled
def window_rows(job, row):
    """Return the first row of a window, and the one after the last.

    Args:
        job (EpiloguePass | BytePass): A pass with a pool.
        row (int): Row of the output.
    """
    top = row * job.pool_step_y - job.pool_top
    return max(top, 0), min(top + job.pool_height, job.height)


@compiled
def pool_row(job, row, addresses, n_rows):
    """Write a row of the output of a pool.

    Args:
        job (EpiloguePass | BytePass): A pass with a pool.
        row (int): Index of the row, counted through all images.
        addresses (int): Address of the addresses of the rows of its windows.
        n_rows (int): Number of them.
    """
    pixel_bytes = job.channels * 4
    columns = (job.width + 2 * job.pool_left - job.pool_width) // job.pool_step_x + 1
    out = job.out + row * columns * pixel_bytes
    for column in range(columns):
        left = column * job.pool_step_x - job.pool_left
        right, left = min(left + job.pool_width, job.width), max(left, 0)
        window = left * pixel_bytes, right - left, job.channels
        pool_channels(out + column * pixel_bytes, addresses, n_rows, *window)


@compiled
def pool_rows(job, rows, ring, addresses, first, last):
    """Finish and pool output rows in sequence.

    Args:
        job (EpiloguePass): The pass.
        rows (int): Rows of the output of an image.
        ring (int): Address of ``pool_height`` rows of finished pixels.
        addresses (int): Address of the addresses of the rows of a window.
        first (int): Index of the first row, counted through all images.
        last (int): Index after the last row.
    """
    row_bytes = job.width * job.channels * 4
    done = -1
    for i in range(first, last):
        image, row = i // rows, i % rows
        if row == 0:
            done = -1
        top, bottom = window_rows(job, row)
        for y in range(top, bottom):
            finished = ring + y % job.pool_height * row_bytes
            store(addresses + (y - top) * 8, finished)
            if y > done:
                sums = job.sums + (image * job.height + y) * row_bytes
                finish_pixels(sums, finished, job.table, job.width, job.channels, job.activates)
                done = y
        pool_row(job, i, addresses, bottom - top)


@compiled_callback(types.void(types.CPointer(types.int64)))
def quantize_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.QuantizationPass` on the calling thread."""
    at = address_of(address)
    job = QuantizationPass(*load_quantization(at))
    border = np.uint8(np.int32(floats(job.numbers, 2)[1]))
    padded_height = job.top + job.height + job.bottom
    row_bytes = job.left + job.row + job.right
    part = add_one(at)
    while part < job.parts:
        for i in range(part * job.rows // job.parts, (part + 1) * job.rows // job.parts):
            image, y = i // padded_height, i % padded_height - job.top
            out = job.out + i * row_bytes
            if y < 0 or y >= job.height:
                fill(out, row_bytes, border)
                continue
            fill(out, job.left, border)
            x = job.x + (image * job.height + y) * job.row * 4
            quantize_row(x, out + job.left, job.row, job.numbers)
            fill(out + job.left + job.row, job.right, border)
        part = add_one(at)


@compiled_callback(types.void(types.CPointer(types.int64)))
def finish_parts(address):
    """Work on an :class:`~surge_mm.deploy.cpu.job.EpiloguePass` on the calling thread."""
    at = address_of(address)
    job = EpiloguePass(*load_epilogue(at))
    rows = (job.height + 2 * job.pool_top - job.pool_height) // job.pool_step_y + 1
    total = job.images * (rows if job.pool_height else job.height)
    buffer = np.empty(job.pool_height * (job.width * job.channels + 2), np.float32)
    addresses = buffer.ctypes.data
    part = add_one(at)
    while part < job.parts:
        first, last = part * total // job.parts, (part + 1) * total // job.parts
        if job.pool_height:
            pool_rows(job, rows, addresses + job.pool_height * 8, addresses, first, last)
        else:
            pixels, at_pixel = (last - first) * job.width, first * job.width * job.channels * 4
            sums, out = job.sums + at_pixel, job.out + at_pixel
            finish_pixels(sums, out, job.table, pixels, job.channels, job.activates)
        part = add_one(at)
    keep(buffer)
