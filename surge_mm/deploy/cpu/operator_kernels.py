"""Passes in place of small operators of PyTorch in a recorded network, compiled by Numba, equal to them to the bit.

All compute in float32. Several threads share a pass: each takes the next part of its rows until none is left. Addresses
are passed as integers.
"""

from __future__ import annotations

from numba import types

from surge_mm.deploy.cpu.byte_kernels import floats
from surge_mm.deploy.cpu.codegen.epilogue import average_channels
from surge_mm.deploy.cpu.codegen.memory import add_one, address_of, load, load_tuple
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback
from surge_mm.deploy.cpu.operator_job import (
    AT_LEAST,
    MULTIPLY,
    AveragePass,
    ElementwisePass,
    UpsampledSumPass,
)

load_elementwise = load_tuple(len(ElementwisePass._fields))
load_upsampled_sum = load_tuple(len(UpsampledSumPass._fields))
load_average = load_tuple(len(AveragePass._fields))


@compiled
def copy_row(x, out, columns, numbers, column_step, step):
    """Copy a row of numbers to contiguous memory.

    Args:
        x (int): Address of the first number, float32.
        out (int): Address of the copy.
        columns (int): Number of columns.
        numbers (int): Numbers of a column.
        column_step (int): Numbers from one column to the next.
        step (int): Numbers from one number of a column to the next.
    """
    source, target = floats(x, 1), floats(out, columns * numbers)
    if step == 1:  # known to the compiler, which then copies vectors
        for column in range(columns):
            for i in range(numbers):
                target[column * numbers + i] = source[column * column_step + i]
    else:
        for column in range(columns):
            for i in range(numbers):
                target[column * numbers + i] = source[column * column_step + i * step]


@compiled
def act(action, c, out, count):
    """Apply an action of an :class:`~surge_mm.deploy.cpu.operator_job.ElementwisePass` in place.

    Args:
        action (int): The action.
        c (float32): Its number.
        out (int): Address of the numbers, float32.
        count (int): Number of them.
    """
    values = floats(out, count)
    if action == MULTIPLY:
        for i in range(count):
            values[i] = values[i] * c
    elif action == AT_LEAST:
        for i in range(count):
            y = values[i]
            values[i] = c if y < c else y
    else:
        for i in range(count):
            y = values[i]
            values[i] = c if c < y else y


@compiled
def add_pixels(first, second, out, channels):
    """Write the sums of two pixels. Where the second one has NaN, its bits are those of the sum.

    Args:
        first (int): Address of a pixel, float32.
        second (int): Address of another one.
        out (int): Address of the sums.
        channels (int): Number of channels.
    """
    a, b, total = floats(first, channels), floats(second, channels), floats(out, channels)
    for i in range(channels):
        y = b[i]
        total[i] = a[i] + y if y == y else y


@compiled_callback(types.void(types.CPointer(types.int64)))
def act_on_parts(address):
    """Work on an :class:`~surge_mm.deploy.cpu.operator_job.ElementwisePass` on the calling thread."""
    at = address_of(address)
    job = ElementwisePass(*load_elementwise(at))
    count = job.columns * job.numbers
    part = add_one(at)
    while part < job.parts:
        for i in range(part * job.rows // job.parts, (part + 1) * job.rows // job.parts):
            out = job.out + i * count * 4
            if job.x != job.out:
                x = job.x + i // job.height * job.x_outer + i % job.height * job.x_row
                copy_row(x, out, job.columns, job.numbers, job.x_column, job.x_number)
            for action in range(job.n_actions):
                pair = job.actions + action * 16
                act(load(pair), floats(load(pair + 8), 1)[0], out, count)
        part = add_one(at)


@compiled_callback(types.void(types.CPointer(types.int64)))
def add_upsampled_parts(address):
    """Work on an :class:`~surge_mm.deploy.cpu.operator_job.UpsampledSumPass` on the calling thread."""
    at = address_of(address)
    job = UpsampledSumPass(*load_upsampled_sum(at))
    pixel_bytes = job.channels * 4
    columns = job.places + job.height * 8
    part = add_one(at)
    while part < job.parts:
        for i in range(part * job.rows // job.parts, (part + 1) * job.rows // job.parts):
            x = job.x + i // job.height * job.image_bytes
            x += load(job.places + i % job.height * 8)
            for column in range(job.width):
                pixel = (i * job.width + column) * pixel_bytes
                source, other = x + load(columns + column * 8), job.other + pixel
                if job.x_is_first:
                    add_pixels(source, other, job.out + pixel, job.channels)
                else:
                    add_pixels(other, source, job.out + pixel, job.channels)
        part = add_one(at)


@compiled_callback(types.void(types.CPointer(types.int64)))
def average_parts(address):
    """Work on an :class:`~surge_mm.deploy.cpu.operator_job.AveragePass` on the calling thread."""
    at = address_of(address)
    job = AveragePass(*load_average(at))
    pixel_bytes = job.channels * 4
    row_bytes = job.width * pixel_bytes
    part = add_one(at)
    while part < job.parts:
        for i in range(part * job.rows // job.parts, (part + 1) * job.rows // job.parts):
            image, top = i // job.out_height, i % job.out_height * job.pool_step_y
            n_rows = min(job.pool_height, job.height - top)
            x = job.x + (image * job.height + top) * row_bytes
            out = job.out + i * job.out_width * pixel_bytes
            for column in range(job.out_width):
                left = column * job.pool_step_x
                window = row_bytes, n_rows, min(job.pool_width, job.width - left), job.channels
                average_channels(out + column * pixel_bytes, x + left * pixel_bytes, *window)
        part = add_one(at)
