"""A tile of a convolution of bytes, from bytes to outputs in registers, by AVX-512 or AVX2, written in LLVM IR.

A tile is some neighboring output pixels times some filters, whose sums stay in registers: 12 pixels and 32 filters in
24 registers of AVX-512, 6 pixels and 16 filters in 12 registers of AVX2. With VNNI, one instruction multiplies 4 bytes
of a pixel with 4 weights of each filter of a register; without, three do, whose sums of 16 bits do not overflow, since
weights have 7 bits.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.epilogue import activate
from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import (
    FEATURES,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    ROW,
    Row,
    function,
    opaque,
    replace_if,
    splat,
)

IN_512 = bool(FEATURES.get('avx512bw'))
HAS_VNNI = bool(FEATURES.get('avx512vnni' if IN_512 else 'avxvnni'))
LANES = 16 if IN_512 else 8
"""Sums of a register."""
PIXELS = 12 if IN_512 else 6
BLOCKS = 2 if IN_512 else 1
"""Blocks of 16 filters of a tile."""
STEP_BYTES = 4
TOGETHER = 4 if IN_512 else 2
"""Steps that are gathered together, where they are consecutive bytes."""
AHEAD = 8
"""Steps by which weights are fetched before they are used: those of a tile are larger than the first cache."""
SUMS = ir.VectorType(I32, LANES)


def _gather(width: int) -> Any:
    """Return the intrinsic that gathers so many steps at once, which are consecutive bytes of a window::

        to[i, p] = x[offsets[min(p, last)] + steps[i]],  four bytes, for i = first to first + width - 1

    for each ``first`` of ``n_firsts`` steps.
    """  # noqa: D415  a formula ends the sentence

    @intrinsic
    def gather(context, x, offsets, last, steps, firsts, n_firsts, to):
        def codegen(context, b, signature, arguments):
            x, offsets, last, *lists, n_firsts, to = arguments
            offsets, steps, firsts, to = (
                b.inttoptr(address, I64.as_pointer()) for address in (offsets, *lists, to)
            )
            pixels = [b.load(b.gep(offsets, [_smaller(b, I64(p), last)])) for p in range(PIXELS)]
            pixels = [b.inttoptr(b.add(x, offset), I8.as_pointer()) for offset in pixels]
            vector, to = ir.VectorType(I32, width), b.bitcast(to, I32.as_pointer())

            def block(i: Any, values: list[Any]) -> list[Any]:
                first = b.load(b.gep(firsts, [i]))
                at = opaque(b, b.load(b.gep(steps, [first])))
                fours = [
                    b.load(b.bitcast(b.gep(pixel, [at]), vector.as_pointer()), align=1)
                    for pixel in pixels
                ]
                target = b.gep(to, [b.mul(first, I64(PIXELS))])
                for p in range(0, PIXELS, width):
                    for j, row in enumerate(_transpose(b, fours[p : p + width])):
                        place = b.gep(target, [I64(j * PIXELS + p)])
                        b.store(row, b.bitcast(place, vector.as_pointer()), align=4)
                return []

            loop(b, I64(0), n_firsts, 1, [], block)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return gather


def _transpose(b: Any, rows: list[Any]) -> list[Any]:
    """Return the columns of as many vectors as each has lanes, a power of 2."""
    n = len(rows)
    while len(rows) > 1:
        lanes = list(range(2 * rows[0].type.count))
        rows = [_pick(b, *pair, lanes) for pair in zip(rows[::2], rows[1::2], strict=True)]
    (whole,) = rows
    return [_pick(b, whole, whole, list(range(j, n * n, n))) for j in range(n)]


def _pick(b: Any, one: Any, other: Any, lanes: list[int]) -> Any:
    return b.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


gather_steps, gather_step = _gather(TOGETHER), _gather(1)


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
    prefetch = function(b, 'llvm.prefetch.p0', ir.VoidType(), I8.as_pointer(), I32, I32, I32)
    multiply_add = _multiply_add(b)
    x = b.inttoptr(x, I32.as_pointer())
    block_bytes = b.mul(n_steps, I64(ROW * STEP_BYTES))
    firsts = [
        b.inttoptr(b.add(w, b.mul(block_bytes, I64(block))), SUMS.as_pointer())
        for block in range(blocks)
    ]
    parts = ROW // LANES

    def step(i: Any, before: list[Any]) -> list[Any]:
        at = b.mul(i, I64(parts))
        places = [b.gep(first, [b.add(at, I64(j))]) for first in firsts for j in range(parts)]
        weights = [b.load(place, align=4) for place in places]
        for first in firsts:
            ahead = b.gep(first, [b.add(at, I64(AHEAD * parts))])
            b.call(prefetch, [b.bitcast(ahead, I8.as_pointer()), I32(0), I32(3), I32(1)])
        after: list[Any] = []
        for p in range(PIXELS):
            four = splat(b, b.load(b.gep(x, [b.add(b.mul(i, I64(PIXELS)), I64(p))])), SUMS)
            for own in weights:
                after.append(multiply_add(before[len(after)], four, own))
        return after

    zeros = [ir.Constant(SUMS, [0] * LANES)] * (PIXELS * blocks * parts)
    sums = loop(b, I64(0), n_steps, 1, zeros, step)
    if parts == 1:
        return sums
    return [_pick(b, *pair, list(range(ROW))) for pair in zip(sums[::2], sums[1::2], strict=True)]


def _multiply_add(b: Any) -> Any:
    """Return the function that adds to each sum the products of 4 bytes and 4 weights."""
    bits = LANES * 32
    if HAS_VNNI:
        vnni = function(b, f'llvm.x86.avx512.vpdpbusd.{bits}', SUMS, SUMS, SUMS, SUMS)
        return lambda before, four, weights: b.call(vnni, [before, four, weights])
    bytes_, pairs = ir.VectorType(I8, 4 * LANES), ir.VectorType(I16, 2 * LANES)
    in_pairs, in_fours = {
        512: ('llvm.x86.avx512.pmaddubs.w.512', 'llvm.x86.avx512.pmaddw.d.512'),
        256: ('llvm.x86.avx2.pmadd.ub.sw', 'llvm.x86.avx2.pmadd.wd'),
    }[bits]
    add_pairs = function(b, in_pairs, pairs, bytes_, bytes_)
    add_fours = function(b, in_fours, SUMS, pairs, pairs)
    ones = ir.Constant(pairs, [1] * (2 * LANES))

    def multiply_add(before: Any, four: Any, weights: Any) -> Any:
        # at most 2 * 255 * 63 = 32,130
        products = b.call(add_pairs, [b.bitcast(four, bytes_), b.bitcast(weights, bytes_)])
        return b.add(before, b.call(add_fours, [products, ones]))

    return multiply_add


tile_of_blocks, tile_of_block = _tile(BLOCKS, True), _tile(1, True)
partial_tile = _tile(1, False)
