"""Convolution of bytes by AVX-512 VNNI, compiled by Numba: exact sums and their epilogue in one pass.

A tile is 6 neighboring output pixels times 16 filters, whose sums stay in registers. One instruction multiplies 4 bytes
of a pixel with 4 weights of each of 16 filters. The module can be imported on CPUs with these instructions alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.epilogue import activate
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
    replace_if,
    splat,
)
from surge_mm.deploy.cpu.job import BytePass
from surge_mm.deploy.cpu.kernel_cache import compiled, compiled_callback

PIXELS = 6
load_pass = load_tuple(len(BytePass._fields))


def _tile(pixels: int, whole: bool) -> Any:
    """Return the intrinsic for a tile of so many pixels and 16 filters, or fewer than 16 if it is not ``whole``::

        S[p, f] = sum over i of four products x[offsets[p] + steps[i] + j] w[i, f, j],  j = 0 to 3
        y = S m1 + a1,  then the activation if activates

    as in :mod:`surge_mm.deploy.real_layers.int8_conv`. Rows of ``table`` and pixels of ``out`` are ``row_bytes`` apart.
    """  # noqa: D415  a formula ends the sentence

    @intrinsic
    def tile(context, x, offsets, steps, n_steps, w, table, activates, out, row_bytes, channels):
        def codegen(context, b, signature, arguments):
            x, offsets, steps, n_steps, w, table, activates, out, row_bytes, channels = arguments
            x, w = b.inttoptr(x, I8.as_pointer()), b.inttoptr(w, INTS.as_pointer())
            offsets, steps = (b.inttoptr(address, I64.as_pointer()) for address in (offsets, steps))
            pixel = [b.gep(x, [b.load(b.gep(offsets, [I64(p)]))]) for p in range(pixels)]
            sums = _sums(b, pixel, steps, n_steps, w)
            row = Row(b, None if whole else channels)
            m1, a1, *others = (
                row.load(b.add(table, b.mul(row_bytes, I64(i)))) for i in (0, 1, 4, 5, 6, 7, 8)
            )
            outputs = [b.fadd(b.fmul(b.sitofp(s, FLOATS), m1), a1) for s in sums]
            with replace_if(b, b.icmp_unsigned('!=', activates, I64(0)), outputs) as replaced:
                for p in range(pixels):
                    replaced[p] = activate(b, outputs[p], others)
            for p in range(pixels):
                row.store(replaced[p], b.add(out, b.mul(row_bytes, I64(p))))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), codegen

    return tile


def _sums(b: Any, pixel: list[Any], steps: Any, n_steps: Any, w: Any) -> list[Any]:
    """Return the sums of each pixel, 16 of int32."""
    multiply_add = function(b, 'llvm.x86.avx512.vpdpbusd.512', INTS, INTS, INTS, INTS)
    before, loop, done = b.block, b.append_basic_block('step'), b.append_basic_block('done')
    b.branch(loop)
    b.position_at_end(loop)
    i, here = b.phi(I64), b.phi(w.type)
    so_far = [b.phi(INTS) for _ in pixel]
    # hidden from LLVM, which would else keep an address for each pixel and step
    at = b.asm(
        ir.FunctionType(I64, [I64]), '', '=r,0', [b.load(b.gep(steps, [i]))], side_effect=False
    )
    weights = b.load(here, align=4)
    after = []
    for row, total in zip(pixel, so_far, strict=True):
        four = b.load(b.bitcast(b.gep(row, [at]), I32.as_pointer()), align=1)
        after.append(b.call(multiply_add, [total, splat(b, four, INTS), weights]))
    following = b.add(i, I64(1))
    zeros = [ir.Constant(INTS, [0] * ROW)] * len(pixel)
    for phi, first, later in (
        (i, I64(0), following),
        (here, w, b.gep(here, [I64(1)])),
        *zip(so_far, zeros, after, strict=True),
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    b.cbranch(b.icmp_signed('<', following, n_steps), loop, done)
    b.position_at_end(done)
    return after


tile_of_pixels, tile_of_pixel = _tile(PIXELS, True), _tile(1, True)
partial_tile_of_pixels, partial_tile_of_pixel = _tile(PIXELS, False), _tile(1, False)


@compiled
def convolve_unit(job, unit):
    """Compute a tile. Units are ordered by image, 16 filters and pixels.

    Args:
        job (BytePass): The pass.
        unit (int): Index of the tile.
    """
    size = min(PIXELS, job.pixels)
    tiles, blocks = (job.pixels + size - 1) // size, (job.channels + ROW - 1) // ROW
    block, image = unit // tiles % blocks, unit // tiles // blocks
    # the last tile overlaps the one before if the pixels are not a multiple of its size
    start = min(unit % tiles * size, job.pixels - size)
    row_bytes, remaining = job.channels * 4, job.channels - block * ROW
    x, w = job.x + image * job.image_bytes, job.filters + block * job.n_steps * ROW * 4
    offsets, table = job.offsets + start * 8, job.table + block * ROW * 4
    out = job.out + (image * job.pixels + start) * row_bytes + block * ROW * 4
    if size == PIXELS:
        read = x, offsets, job.steps, job.n_steps, w
        if remaining >= ROW:
            tile_of_pixels(*read, table, job.activates, out, row_bytes, remaining)
        else:
            partial_tile_of_pixels(*read, table, job.activates, out, row_bytes, remaining)
        return
    for p in range(size):
        read = x, offsets + p * 8, job.steps, job.n_steps, w
        to = out + p * row_bytes
        if remaining >= ROW:
            tile_of_pixel(*read, table, job.activates, to, row_bytes, remaining)
        else:
            partial_tile_of_pixel(*read, table, job.activates, to, row_bytes, remaining)


@compiled_callback(types.void(types.CPointer(types.int64)))
def convolve_parts(address):
    """Work on a :class:`~surge_mm.deploy.cpu.job.BytePass` on the calling thread."""
    at = address_of(address)
    job = BytePass(*load_pass(at))
    part = add_one(at)
    while part < job.parts:
        for unit in range(part * job.units // job.parts, (part + 1) * job.units // job.parts):
            convolve_unit(job, unit)
        part = add_one(at)
