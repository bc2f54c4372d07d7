"""Counts of bits that differ by AVX2's table look-up of bytes, of two neighboring pixels at once, in LLVM IR.

A step of a window is four channels. With a and a' the four bits of two pixels, and w those of a filter::

    TABLE[a, a'][w] = popcount(a ^ w) + 16 popcount(a' ^ w)

One instruction looks up the 16 bytes of a pair for 32 filters. Three steps count up to 12, so the sum s of their bytes
has the counts of both pixels. Bytes are added to ``A = sum s`` and, of words of 16 bits, to ``T = sum (s >> 4)``,
modulo 256. After six words, whose counts are at most 192, all counts follow from A and T. Two words of two pixels and
64 filters take 88 instructions, and about 240 by popcounts, whose bytes are looked up too.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import I8, I16, I32, I64, INTS, ROW, function

BLOCK = 2 * ROW
"""Filters that are looked up at once. Byte 2 j is that of filter j, byte 2 j + 1 that of filter 16 + j."""
STEPS = 8
"""Steps of a word. Step 2 k + l is bits 4 k to 4 k + 3 of its l-th half."""
BYTES, SUMS, ENTRY = ir.VectorType(I8, BLOCK), ir.VectorType(I16, ROW), ir.VectorType(I8, 16)
SHORT, LONG = 6, 6 * 341
"""Words whose bits are counted in a byte, and in 16 bits."""
PIXEL_BYTES = ROW * 4
"""Bytes of the counts of 16 filters and a pixel, int32."""
MOST_PIXELS = 16
"""Pixels whose counts are next to one another in memory."""
ROW_BYTES = MOST_PIXELS * PIXEL_BYTES
"""Bytes from the counts of 16 filters to those of the next 16."""


@intrinsic
def pair_indices(context, words, distance, to, n):
    """Write 16 times the index ``a + 16 a'`` of all steps, of words i and ``i + distance`` for 0 <= i < n.

    Args:
        context (Context): Given by Numba.
        words (int): Address of the words. No word beyond ``n - 1 + distance`` is read.
        distance (int): Words from a pixel to the next one.
        to (int): Address of four planes of n times two uint16 each: steps 2 k and 2 k + 1 of each word.
        n (int): Number of words.
    """

    def codegen(context, b, signature, arguments):
        words, distance, to, n = arguments
        plane = b.mul(n, I64(4))

        def each(start, end, count):
            kind, lanes = ir.VectorType(I32, count), ir.VectorType(I16, 2 * count)

            def constant(value):
                return ir.Constant(lanes, [value] * lanes.count)

            def moved(x, bits):
                if bits > 0:
                    return b.shl(x, constant(bits))
                return b.lshr(x, constant(-bits)) if bits else x

            with cgutils.for_range_slice(b, start, end, I64(count), intp=I64) as (i, _):
                at = b.mul(i, I64(4))
                x, y = (
                    b.bitcast(b.load(b.inttoptr(place, kind.as_pointer()), align=4), lanes)
                    for place in (
                        b.add(words, at),
                        b.add(words, b.add(at, b.mul(distance, I64(4)))),
                    )
                )
                for k in range(4):
                    low = b.and_(moved(x, 4 - 4 * k), constant(0x00F0))
                    high = b.and_(moved(y, 8 - 4 * k), constant(0x0F00))
                    place = b.add(b.add(to, at), b.mul(plane, I64(k)))
                    b.store(b.or_(low, high), b.inttoptr(place, lanes.as_pointer()), align=2)

        whole = b.and_(n, I64(-8))
        each(I64(0), whole, 8)
        each(whole, n, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


def _count(blocks: int) -> Any:
    """Return the intrinsic that counts for so many blocks of 32 filters.

    ``indices`` is the address of the first index of a pair of pixels, whose planes are ``plane`` bytes apart, and
    ``steps`` that of the offsets of the ``n_steps`` words of a window. ``w`` has 32 bytes for each of the 8 steps of a
    word. The next block begins ``block_bytes`` later. ``counts`` is the address of the first pixel's in an array of
    int32, ``(2 blocks, MOST_PIXELS, 16)``, of which the two pixels are written.
    """

    @intrinsic
    def count(context, counts, indices, plane, steps, n_steps, w, block_bytes):
        def codegen(context, b, signature, arguments):
            _count_blocks(b, blocks, *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return count


def _count_blocks(
    b: Any,
    blocks: int,
    counts: Any,
    indices: Any,
    plane: Any,
    steps: Any,
    n_steps: Any,
    w: Any,
    block_bytes: Any,
) -> None:
    """Count for each block; see :func:`_count`."""
    steps = b.inttoptr(steps, I64.as_pointer())
    first_filters = [b.add(w, b.mul(block_bytes, I64(i))) for i in range(blocks)]
    outputs = [
        b.inttoptr(b.add(counts, I64(row * ROW_BYTES + pixel * PIXEL_BYTES)), INTS.as_pointer())
        for row in range(2 * blocks)
        for pixel in range(2)
    ]

    def word(step: Any, sums: list[Any]) -> list[Any]:
        at = b.add(indices, b.mul(b.load(b.gep(steps, [step])), I64(4)))
        filters = [b.add(first, b.mul(step, I64(STEPS * BLOCK))) for first in first_filters]
        return _add_word(b, at, plane, filters, sums)

    def few_words(first: Any, totals: list[Any]) -> list[Any]:
        zeros = [ir.Constant(BYTES, [0] * BLOCK)] * (2 * blocks)
        sums = loop(b, first, _end(b, first, SHORT, n_steps), 1, zeros, word)
        found = [one for i in range(blocks) for one in _separated(b, *sums[2 * i : 2 * i + 2])]
        return [b.add(total, one) for total, one in zip(totals, found, strict=True)]

    def many_words(first: Any) -> list[Any]:
        zeros = [ir.Constant(SUMS, [0] * ROW)] * len(outputs)
        totals = loop(b, first, _end(b, first, LONG, n_steps), SHORT, zeros, few_words)
        return [b.zext(total, INTS) for total in totals]

    for out, count in zip(outputs, many_words(I64(0)), strict=True):
        b.store(count, out, align=4)
    with cgutils.for_range_slice(b, I64(LONG), n_steps, I64(LONG), intp=I64) as (first, _):
        for out, count in zip(outputs, many_words(first), strict=True):
            b.store(b.add(b.load(out, align=4), count), out, align=4)


def _end(b: Any, first: Any, count: int, n: Any) -> Any:
    """Return ``min(first + count, n)``."""
    end = b.add(first, I64(count))
    return b.select(b.icmp_signed('<', end, n), end, n)


def _add_word(b: Any, at: Any, plane: Any, filters: list[Any], sums: list[Any]) -> list[Any]:
    """Add the steps of a word to A and T of each block."""
    look_up = function(b, 'llvm.x86.avx2.pshuf.b', BYTES, BYTES, BYTES)
    table = b.bitcast(_table(b), I8.as_pointer())
    both = ir.Constant(ir.VectorType(I32, BLOCK), list(range(16)) * 2)
    sums = list(sums)
    for first in range(0, STEPS, 3):
        threes: list[Any] = []
        for step in range(first, min(first + 3, STEPS)):
            k, lane = divmod(step, 2)
            place = b.add(b.add(at, b.mul(plane, I64(k))), I64(2 * lane))
            index = b.zext(b.load(b.inttoptr(place, I16.as_pointer()), align=2), I64)
            entry = b.load(b.bitcast(b.gep(table, [index]), ENTRY.as_pointer()), align=16)
            entry = b.shuffle_vector(entry, entry, both)
            found = []
            for address in filters:
                place = b.inttoptr(b.add(address, I64(step * BLOCK)), BYTES.as_pointer())
                found.append(b.call(look_up, [entry, b.load(place, align=8)]))
            threes = [b.add(*two) for two in zip(threes, found, strict=True)] if threes else found
        for i, three in enumerate(threes):
            pairs = b.lshr(b.bitcast(three, SUMS), ir.Constant(SUMS, [4] * ROW))
            sums[2 * i] = b.add(sums[2 * i], three)
            sums[2 * i + 1] = b.add(sums[2 * i + 1], b.bitcast(pairs, BYTES))
    return sums


def _separated(b: Any, a: Any, t: Any) -> list[Any]:
    """Return the counts from A and T: of the first 16 filters, for the first and the second pixel, and of the others.

    With L and H the counts of the first and the second pixel, in the low byte and the high byte (')::

        A = L + 16 H     A' = L' + 16 H'     T = H + 16 L'     T' = H'     modulo 256
    """
    a, t = b.bitcast(a, SUMS), b.bitcast(t, SUMS)
    four, eight, mask = (ir.Constant(SUMS, [n] * ROW) for n in (4, 8, 255))

    def without(x: Any, y: Any) -> Any:
        return b.and_(b.sub(x, b.shl(y, four)), mask)

    second_high = b.lshr(t, eight)
    first_high = without(b.lshr(a, eight), second_high)
    second_low = without(t, first_high)
    return [without(a, second_low), second_low, first_high, second_high]


def _table(b: Any) -> Any:
    """Return a pointer to :math:`TABLE`, 256 entries of 16 bytes."""
    name = 'surge_mm.counts_of_pairs'
    if name in b.module.globals:
        return b.module.globals[name]
    counts = [
        (a ^ w).bit_count() + 16 * (second ^ w).bit_count()
        for second in range(16)
        for a in range(16)
        for w in range(16)
    ]
    values = ir.Constant(ir.ArrayType(I8, len(counts)), bytearray(counts))
    table = cgutils.global_constant(b.module, name, values)
    table.align = 64
    return table


count_blocks, count_block = _count(2), _count(1)
