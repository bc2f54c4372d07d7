"""Passes before and after a convolution of bytes, compiled by Numba for this CPU: quantization and epilogue.

Both are computed in float32, with each operation rounded, so that every CPU gives the same bits. Several threads share
a pass: each takes the next part of its rows until none is left. Addresses are passed as integers.
"""

from __future__ import annotations

import numpy as np
from numba import carray, types

from surge_mm.deploy.cpu.job import EpiloguePass, QuantizationPass
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback
from surge_mm.deploy.cpu.memory_intrinsics import add_one, address_of, load_tuple, pointer

load_quantization = load_tuple(len(QuantizationPass._fields))
load_epilogue = load_tuple(len(EpiloguePass._fields))
ZERO, LARGEST = np.float32(0), np.float32(255)


@compiled
def floats(address, count):
    """Return consecutive float32 at an address as an array.

    Args:
        address (int): The address.
        count (int): Number of them.
    """
    return carray(pointer(address), (count,), np.float32)


@compiled
def quantize_row(x, out, count, inverse, zero):
    """Write ``clamp(rint(x inverse) + zero, 0, 255)``, and 0 for NaN, for consecutive numbers.

    Args:
        x (int): Address of the numbers, float32.
        out (int): Address of the bytes.
        count (int): Number of them.
        inverse (float32): 1 / step.
        zero (float32): The byte that stands for 0.
    """
    values, bytes_ = floats(x, count), carray(pointer(out), (count,), np.uint8)
    for i in range(count):
        y = np.rint(values[i] * inverse) + zero
        y = y if y > ZERO else ZERO
        y = y if y < LARGEST else LARGEST
        bytes_[i] = np.uint8(np.int32(y))


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
def finish_pixels(sums, table, pixels, channels, activates):
    """Replace sums by the output, for consecutive pixels.

    Args:
        sums (int): Address of the sums, ``(pixels, channels)``, float32.
        table (int): Address of the table, ``(9, channels)``, float32.
        pixels (int): Number of pixels.
        channels (int): Output channels, C_out.
        activates (int): 1 if the table has steps after a1.
    """
    row = channels * 4
    m1, a1 = floats(table, channels), floats(table + row, channels)
    if not activates:
        for pixel in range(pixels):
            out = floats(sums + pixel * row, channels)
            for i in range(channels):
                out[i] = out[i] * m1[i] + a1[i]
        return
    p, slope = floats(table + 4 * row, channels), floats(table + 5 * row, channels)
    c, low = floats(table + 6 * row, channels), floats(table + 7 * row, channels)
    high = floats(table + 8 * row, channels)
    for pixel in range(pixels):
        out = floats(sums + pixel * row, channels)
        for i in range(channels):
            y = out[i] * m1[i] + a1[i] + p[i]
            y = (y if y > ZERO else y * slope[i]) + c[i]
            y = low[i] if y < low[i] else y
            out[i] = high[i] if y > high[i] else y


@compiled_callback(types.void(types.CPointer(types.int64)))
def quantize_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.QuantizationPass` on the calling thread."""
    at = address_of(address)
    job = QuantizationPass(*load_quantization(at))
    numbers = floats(job.numbers, 2)
    inverse, zero = numbers[0], numbers[1]
    border = np.uint8(np.int32(zero))
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
            quantize_row(x, out + job.left, job.row, inverse, zero)
            fill(out + job.left + job.row, job.right, border)
        part = add_one(at)


@compiled_callback(types.void(types.CPointer(types.int64)))
def finish_parts(address):
    """Work on an :class:`~surge_mm.deploy.cpu.job.EpiloguePass` on the calling thread."""
    at = address_of(address)
    job = EpiloguePass(*load_epilogue(at))
    part = add_one(at)
    while part < job.parts:
        first, last = part * job.rows // job.parts, (part + 1) * job.rows // job.parts
        sums = job.sums + first * job.channels * 4
        finish_pixels(sums, job.table, last - first, job.channels, job.activates)
        part = add_one(at)
