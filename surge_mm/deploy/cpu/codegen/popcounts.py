"""Counts of bits that differ, summed over the words of a window, in LLVM IR.

Two halves x0 and x1 of a word are added to a bit of each place before ones are counted::

    one = ones ^ x0 ^ w0;  two = one ^ x1 ^ w1        the last bit of the sum so far, after each half
    carry = where two of ones, x0 ^ w0 and x1 ^ w1 are 1
    ones = two;  count += 2 popcount(carry)           and popcount(ones) at the end

So a word takes one popcount, and five instructions of AVX-512, whose XOR and carry have three operands (Harley and
Seal, in Warren, Hacker's Delight).

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import I32, I64, INTS, ROW, WIDE, function, opaque, splat

HALVES = 2
"""Parts of a word, each of 32 bits."""


def count_by_words(b: Any, pixel: list[Any], steps: Any, n_steps: Any, w: Any) -> list[Any]:
    """Return for each pixel the counts of 16 filters, int32: ``sum popcount(x[i] ^ w[i, f])``.

    Args:
        b (IRBuilder): The builder.
        pixel (list[Value]): Pointers to the first word x of each pixel.
        steps (Value): Pointer to the offsets of its words.
        n_steps (Value): Number of words, at least 1.
        w (Value): Pointer to the words of the filters, 16 int32 for each half of a step.
    """

    def halves(address: Any, kind: Any) -> list[Any]:
        first = b.bitcast(address, kind.as_pointer())
        return [b.load(b.gep(first, [I64(half)]), align=4) for half in range(HALVES)]

    def add_word(step: Any, before: list[Any]) -> list[Any]:
        at = opaque(b, b.load(b.gep(steps, [step])))
        w0, w1 = halves(b.gep(w, [b.mul(step, I64(HALVES))]), INTS)
        after: list[Any] = []
        for i, row in enumerate(pixel):
            ones, twos = before[2 * i : 2 * i + 2]
            x0, x1 = (splat(b, half, INTS) for half in halves(b.gep(row, [at]), I32))
            one = b.xor(b.xor(ones, x0), w0)
            two = b.xor(b.xor(one, x1), w1)
            after += [two, b.add(twos, popcount(b, carry(b, ones, one, two)))]
        return after

    zeros = [ir.Constant(INTS, [0] * ROW)] * (2 * len(pixel))
    both = loop(b, I64(0), n_steps, 1, zeros, add_word)
    one_bit = ir.Constant(INTS, [1] * ROW)
    return [
        b.add(popcount(b, ones), b.shl(twos, one_bit))
        for ones, twos in zip(both[::2], both[1::2], strict=True)
    ]


def popcount(b: Any, bits: Any) -> Any:
    """Return the number of ones in each lane.

    Args:
        b (IRBuilder): The builder.
        bits (Value): 16 lanes.
    """
    return b.call(function(b, f'llvm.ctpop.v{ROW}i32', INTS, INTS), [bits])


def carry(b: Any, ones: Any, one: Any, two: Any) -> Any:
    """Return the bits where two or three of x, y and z are 1, given x, ``x ^ y`` and ``x ^ y ^ z``.

    Args:
        b (IRBuilder): The builder.
        ones (Value): x, 16 lanes.
        one (Value): ``x ^ y``.
        two (Value): ``x ^ y ^ z``.
    """
    if WIDE:
        kind = (INTS, INTS, INTS, INTS, I32)
        by_table = function(b, 'llvm.x86.avx512.pternlog.d.512', *kind)
        table = sum(1 << i for i in (0b010, 0b100, 0b101, 0b110))
        return b.call(by_table, [ones, one, two, I32(table)])
    return b.xor(ones, b.and_(one, b.not_(b.xor(ones, two))))
