"""Counts of bits that differ, summed over the words of a window, in LLVM IR.

Two words x0 and x1 are added to a bit of each place before ones are counted::

    one = ones ^ x0 ^ w0;  two = one ^ x1 ^ w1        the last bit of the sum so far, after each word
    carry = where two of ones, x0 ^ w0 and x1 ^ w1 are 1
    ones = two;  count += 2 popcount(carry)           and popcount(ones) at the end

So two words take one popcount, and five instructions of AVX-512, whose XOR and carry have three operands (Harley and
Seal, in Warren, Hacker's Delight). The last of an odd number of words is added alone.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import (
    I32,
    I64,
    INTS,
    ROW,
    WIDE,
    function,
    opaque,
    replace_if,
    splat,
)


def count_by_words(b: Any, pixel: list[Any], steps: Any, n_steps: Any, w: Any) -> list[Any]:
    """Return for each pixel the counts of 16 filters, int32: ``sum popcount(x[i] ^ w[i, f])``.

    Args:
        b (IRBuilder): The builder.
        pixel (list[Value]): Pointers to the first word x of each pixel.
        steps (Value): Pointer to the offsets of its words.
        n_steps (Value): Number of words, at least 1.
        w (Value): Pointer to the words of the filters, 16 int32 for each step.
    """

    def word(step: Any) -> tuple[Any, Any]:
        """Return the offset of a word, and the words of the filters."""
        at = opaque(b, b.load(b.gep(steps, [step])))
        return at, b.load(b.gep(w, [step]), align=4)

    def add_pair(step: Any, before: list[Any]) -> list[Any]:
        (at0, w0), (at1, w1) = word(step), word(b.add(step, I64(1)))
        after: list[Any] = []
        for i, row in enumerate(pixel):
            ones, twos = before[2 * i : 2 * i + 2]
            x0, x1 = (splat(b, b.load(b.gep(row, [at])), INTS) for at in (at0, at1))
            one = b.xor(b.xor(ones, x0), w0)
            two = b.xor(b.xor(one, x1), w1)
            after += [two, b.add(twos, popcount(b, carry(b, ones, one, two)))]
        return after

    def add_last(before: list[Any]) -> list[Any]:
        at, own = word(b.sub(n_steps, I64(1)))
        after: list[Any] = []
        for i, row in enumerate(pixel):
            ones, twos = before[2 * i : 2 * i + 2]
            differing = b.xor(splat(b, b.load(b.gep(row, [at])), INTS), own)
            carried = popcount(b, b.and_(ones, differing))
            after += [b.xor(ones, differing), b.add(twos, carried)]
        return after

    both = [ir.Constant(INTS, [0] * ROW)] * (2 * len(pixel))
    in_pairs, is_odd = b.and_(n_steps, I64(-2)), b.and_(n_steps, I64(1))
    with replace_if(b, b.icmp_signed('>', in_pairs, I64(0)), both) as after:
        after[:] = loop(b, I64(0), in_pairs, 2, both, add_pair)
    both = after
    with replace_if(b, b.icmp_signed('!=', is_odd, I64(0)), both) as after:
        after[:] = add_last(both)
    one_bit = ir.Constant(INTS, [1] * ROW)
    return [
        b.add(popcount(b, ones), b.shl(twos, one_bit))
        for ones, twos in zip(after[::2], after[1::2], strict=True)
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
