"""Counts of bits in counters of bytes, for CPUs whose popcount is one of bytes, such as NEON's, in LLVM IR.

A word of each filter is four bytes, whose popcounts are added to four counters of bytes. After at most 31 words,
before a counter can exceed 255, the counters of a filter are added to its count. So a vector takes a popcount and an
addition, where counts of words would take three more additions. Words are counted one by one: two at a time, as on
other CPUs, would take more instructions than they save.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import I8, I32, I64, ROW, function, splat

WORDS = 31
"""Words whose different bits in a byte, at most 8 each, are counted in a byte."""
LANES = ir.VectorType(I32, 4)
"""Words of four filters, a register of 128 bits."""
BYTES = ir.VectorType(I8, 16)


def count_by_bytes(b: Any, pixel: list[Any], steps: Any, n_steps: Any, w: Any) -> list[Any]:
    """Return for each pixel the counts of 16 filters, int32: ``sum popcount(x[i] ^ w[i, f])``.

    Args:
        b (IRBuilder): The builder.
        pixel (list[Value]): Pointers to the first word x of each pixel.
        steps (Value): Pointer to the offsets of its words.
        n_steps (Value): Number of words, at least 1.
        w (Value): Pointer to the words of the filters, 16 int32 for each step.
    """
    fours = range(0, ROW, LANES.count)
    popcount = function(b, f'llvm.ctpop.v{BYTES.count}i8', BYTES, BYTES)
    address = b.ptrtoint(w, I64)

    def add_words(step: Any, sums: list[Any]) -> list[Any]:
        at = b.load(b.gep(steps, [step]))
        words = [splat(b, b.load(b.gep(row, [at])), LANES) for row in pixel]
        first = b.add(address, b.mul(step, I64(4 * ROW)))
        after: list[Any] = []
        for four in fours:
            place = b.inttoptr(b.add(first, I64(4 * four)), LANES.as_pointer())
            filters = b.load(place, align=4)
            for word in words:
                bits = b.bitcast(b.xor(word, filters), BYTES)
                after.append(b.add(sums[len(after)], b.call(popcount, [bits])))
        return after

    def add_bytes(step: Any, totals: list[Any]) -> list[Any]:
        end = b.add(step, I64(WORDS))
        end = b.select(b.icmp_signed('<', end, n_steps), end, n_steps)
        zeros = [ir.Constant(BYTES, [0] * BYTES.count)] * len(totals)
        sums = loop(b, step, end, 1, zeros, add_words)
        return [b.add(total, _sums(b, one)) for total, one in zip(totals, sums, strict=True)]

    zeros = [ir.Constant(LANES, [0] * LANES.count)] * (len(pixel) * len(fours))
    totals = loop(b, I64(0), n_steps, WORDS, zeros, add_bytes)
    return [_joined(b, totals[p :: len(pixel)]) for p in range(len(pixel))]


def _sums(b: Any, counts: Any) -> Any:
    """Return the sums of four bytes each, int32."""
    words = b.bitcast(counts, LANES)
    for bits, mask in ((8, 0x00FF00FF), (16, 0x0000FFFF)):
        masks = ir.Constant(LANES, [mask] * LANES.count)
        shifted = b.lshr(words, ir.Constant(LANES, [bits] * LANES.count))
        words = b.add(b.and_(words, masks), b.and_(shifted, masks))
    return words


def _joined(b: Any, parts: list[Any]) -> Any:
    """Return the numbers of vectors of one type in one vector."""
    while len(parts) > 1:
        count = 2 * parts[0].type.count
        both = ir.Constant(ir.VectorType(I32, count), list(range(count)))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [b.shuffle_vector(low, high, both) for low, high in pairs]
    return parts[0]
