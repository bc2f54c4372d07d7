"""Convolution of bytes by AVX-512 VNNI, compiled by Numba: exact sums and their epilogue in one pass.

A tile is 12 neighboring output pixels times 32 filters, whose sums stay in 24 registers. One instruction multiplies 4
bytes of a pixel with 4 weights of each of 16 filters. The bytes of the windows are first gathered in the order in which
they are read, once for all filters. The module can be imported on CPUs with these instructions alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.epilogue import activate
from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.memory import add_one, address_of, load_tuple
from surge_mm.deploy.cpu.codegen.vectors import (
    FLOATS,
    I8,
    I32,
    I64,
    INTS,
    ROW,
    Row,
    function,
    opaque,
    replace_if,
    splat,
)
from surge_mm.deploy.cpu.job import BytePass
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback
from surge_mm.deploy.cpu.kernels import keep

PIXELS = 12
BLOCKS = 2
"""Blocks of 16 filters of a tile."""
STEP_BYTES = 4
AHEAD = 8
"""Steps by which weights are fetched before they are used: those of a tile are larger than the first cache."""
load_pass = load_tuple(len(BytePass._fields))


@intrinsic
def gather(context, x, offsets, last, steps, n_steps, to):
    """Write the four bytes of each step and pixel of a tile: ``to[i, p] = x[offsets[min(p, last)] + steps[i]]``.

    Args:
        context (Context): Given by Numba.
        x (int): Address of the image.
        offsets (int): Address of the offsets of the windows of the pixels.
        last (int): Index of the last pixel.
        steps (int): Address of the offsets within a window.
        n_steps (int): Number of steps.
        to (int): Address of the bytes, ``(n_steps, PIXELS, 4)``.
    """

    def codegen(context, b, signature, arguments):
        x, offsets, last, steps, n_steps, to = arguments
        offsets, steps = (b.inttoptr(address, I64.as_pointer()) for address in (offsets, steps))
        pixels = [b.load(b.gep(offsets, [_smaller(b, I64(p), last)])) for p in range(PIXELS)]
        pixels = [b.inttoptr(b.add(x, offset), I8.as_pointer()) for offset in pixels]
        to = b.inttoptr(to, I32.as_pointer())

        def step(i: Any, values: list[Any]) -> list[Any]:
            at = opaque(b, b.load(b.gep(steps, [i])))
            for p, pixel in enumerate(pixels):
                four = b.load(b.bitcast(b.gep(pixel, [at]), I32.as_pointer()), align=1)
                b.store(four, b.gep(to, [b.add(b.mul(i, I64(PIXELS)), I64(p))]))
            return []

        loop(b, I64(0), n_steps, 1, [], step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


def _smaller(b: Any, one: Any, other: Any) -> Any:
    return b.select(b.icmp_signed('<', one, other), one, other)


def _tile(blocks: int, whole: bool) -> Any:
    """Return the intrinsic for a tile of so many blocks of 16 filters, or one of fewer filters if not ``whole``::

        S[p, f] = sum over i of four products x[i, p, j] w[i, f, j],  j = 0 to 3
        y = S m1 + a1,  then the activation if activates

    as in :mod:`surge_mm.deploy.real_layers.int8_conv`. Rows of ``table`` and pixels of ``out`` are ``row_bytes`` apart.
    Pixels after the ``last`` one are computed as it is, and written to its place.
    """  # noqa: D415  a formula ends the sentence

    @intrinsic
    def tile(context, x, n_steps, w, table, activates, out, row_bytes, last, channels):
        def codegen(context, b, signature, arguments):
            x, n_steps, w, table, activates, out, row_bytes, last, channels = arguments
            sums = _sums(b, x, n_steps, w, blocks)
            row = Row(b, None if whole else channels)
            pixels = [
                b.add(out, b.mul(row_bytes, _smaller(b, I64(p), last))) for p in range(PIXELS)
            ]
            for block in range(blocks):
                at = I64(block * ROW * 4)
                first = b.add(table, at)
                m1, a1, *others = (
                    row.load(b.add(first, b.mul(row_bytes, I64(i)))) for i in (0, 1, 4, 5, 6, 7, 8)
                )
                own = sums[block::blocks]
                outputs = [b.fadd(b.fmul(b.sitofp(s, FLOATS), m1), a1) for s in own]
                with replace_if(b, b.icmp_unsigned('!=', activates, I64(0)), outputs) as replaced:
                    for p in range(PIXELS):
                        replaced[p] = activate(b, outputs[p], others)
                for y, pixel in zip(replaced, pixels, strict=True):
                    row.store(y, b.add(pixel, at))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), codegen

    return tile


def _sums(b: Any, x: Any, n_steps: Any, w: Any, blocks: int) -> list[Any]:
    """Return the sums of each pixel and block, 16 of int32."""
    multiply_add = function(b, 'llvm.x86.avx512.vpdpbusd.512', INTS, INTS, INTS, INTS)
    prefetch = function(b, 'llvm.prefetch.p0', ir.VoidType(), I8.as_pointer(), I32, I32, I32)
    x = b.inttoptr(x, I32.as_pointer())
    block_bytes = b.mul(n_steps, I64(ROW * STEP_BYTES))
    firsts = [
        b.inttoptr(b.add(w, b.mul(block_bytes, I64(block))), INTS.as_pointer())
        for block in range(blocks)
    ]

    def step(i: Any, before: list[Any]) -> list[Any]:
        weights = [b.load(b.gep(first, [i]), align=4) for first in firsts]
        for first in firsts:
            ahead = b.gep(first, [b.add(i, I64(AHEAD))])
            b.call(prefetch, [b.bitcast(ahead, I8.as_pointer()), I32(0), I32(3), I32(1)])
        after: list[Any] = []
        for p in range(PIXELS):
            four = b.load(b.gep(x, [b.add(b.mul(i, I64(PIXELS)), I64(p))]))
            for own in weights:
                after.append(b.call(multiply_add, [before[len(after)], splat(b, four, INTS), own]))
        return after

    zeros = [ir.Constant(INTS, [0] * ROW)] * (PIXELS * blocks)
    return loop(b, I64(0), n_steps, 1, zeros, step)


tile_of_blocks, tile_of_block = _tile(BLOCKS, True), _tile(1, True)
partial_tile = _tile(1, False)


@compiled
def convolve_tile(job, unit, windows):
    """Compute the filters of a tile of pixels. Units are ordered by image and pixels.

    Args:
        job (BytePass): The pass.
        unit (int): Index of the tile.
        windows (int): Address of memory for the bytes of its windows, ``(n_steps, PIXELS, 4)``.
    """
    tiles = (job.pixels + PIXELS - 1) // PIXELS
    # the last tile overlaps the one before if the pixels are not a multiple of its size
    start = max(min(unit % tiles * PIXELS, job.pixels - PIXELS), 0)
    image, last = unit // tiles, min(PIXELS, job.pixels) - 1
    row_bytes = job.channels * 4
    x, out = job.x + image * job.image_bytes, job.out + (image * job.pixels + start) * row_bytes
    gather(x, job.offsets + start * 8, last, job.steps, job.n_steps, windows)
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


@compiled_callback(types.void(types.CPointer(types.int64)))
def convolve_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.BytePass` on the calling thread."""
    at = address_of(address)
    job = BytePass(*load_pass(at))
    windows = np.empty(job.n_steps * PIXELS, np.int32)
    part = add_one(at)
    while part < job.parts:
        for unit in range(part * job.units // job.parts, (part + 1) * job.units // job.parts):
            convolve_tile(job, unit, windows.ctypes.data)
        part = add_one(at)
    keep(windows)
