"""Counts of bits that differ, summed over the words of a window, in LLVM IR.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from surge_mm.deploy.cpu.codegen.vectors import (
    COUNTS,
    FEATURES,
    I8,
    I32,
    I64,
    INTS,
    LANE,
    ROW,
    function,
)

BY_BYTES = LANE == 64 and bool(FEATURES.get('avx2'))
"""Whether bits are counted for each byte of a lane, and the bytes of a lane are added after some steps.

AVX2 looks the counts of bytes up. To add them at once would cost an instruction for each word, and more registers.
"""
BYTE_STEPS = 10
"""Steps after which the bytes are added: the three words of a step count up to 24 in a byte."""
PARTIAL = ir.VectorType(I8, 8 * ROW) if BY_BYTES else COUNTS
"""Counts within the loop over the steps."""


def over_steps(
    b: Any,
    steps: Any,
    n_steps: Any,
    w: Any,
    w_step: int,
    n_counts: int,
    add: Callable[[Any, Any, list[Any]], list[Any]],
) -> list[Any]:
    """Return counts, 16 of int32 each, after ``counts = add(steps[i], w, counts)`` for all steps.

    Args:
        b (IRBuilder): The builder.
        steps (Value): Address of the steps, int64.
        n_steps (Value): Number of steps, at least 1.
        w (Value): Address of the vectors of filters.
        w_step (int): Vectors of a step.
        n_counts (int): Number of counts.
        add (Callable): Adds the words of a step to counts of the type :data:`PARTIAL`.
    """
    zeros = [ir.Constant(PARTIAL, [0] * PARTIAL.count)] * n_counts
    if not BY_BYTES:
        counts = _run(b, steps, I64(0), n_steps, w, w_step, zeros, add)
        return counts if LANE == 32 else [b.trunc(count, INTS) for count in counts]
    totals = [cgutils.alloca_once_value(b, ir.Constant(INTS, [0] * ROW)) for _ in zeros]
    with cgutils.for_range_slice(b, I64(0), n_steps, I64(BYTE_STEPS), intp=I64) as (first, _):
        end = b.add(first, I64(BYTE_STEPS))
        end = b.select(b.icmp_signed('<', end, n_steps), end, n_steps)
        here = b.gep(w, [b.mul(first, I64(w_step))])
        counts = _run(b, steps, first, end, here, w_step, zeros, add)
        for total, count in zip(totals, counts, strict=True):
            b.store(b.add(b.load(total), _sum_of_bytes(b, count)), total)
    return [b.load(total) for total in totals]


def _run(
    b: Any,
    steps: Any,
    start: Any,
    end: Any,
    w: Any,
    w_step: int,
    counts: list[Any],
    add: Callable[[Any, Any, list[Any]], list[Any]],
) -> list[Any]:
    """Return the counts after steps ``start`` to ``end - 1``; see :func:`over_steps`."""
    before = b.block
    loop, done = b.append_basic_block('step'), b.append_basic_block('done')
    b.branch(loop)

    b.position_at_end(loop)
    i, here = b.phi(I64), b.phi(w.type)
    so_far = [b.phi(PARTIAL) for _ in counts]
    after = add(b.load(b.gep(steps, [i])), here, so_far)
    following = b.add(i, I64(1))
    for phi, first, later in (
        (i, start, following),
        (here, w, b.gep(here, [I64(w_step)])),
        *zip(so_far, counts, after, strict=True),
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    b.cbranch(b.icmp_signed('<', following, end), loop, done)

    b.position_at_end(done)
    return after


def popcount(b: Any, bits: Any) -> Any:
    """Return the number of ones in each lane, or in each byte if :data:`BY_BYTES`.

    Args:
        b (IRBuilder): The builder.
        bits (Value): 16 lanes.
    """
    name = f'llvm.ctpop.v{PARTIAL.count}i{PARTIAL.element.width}'
    return b.call(function(b, name, PARTIAL, PARTIAL), [b.bitcast(bits, PARTIAL)])


def _sum_of_bytes(b: Any, counts: Any) -> Any:
    """Return the sum of the 8 bytes of each lane, by AVX2 in one instruction for 4 lanes."""
    quarter, lanes = ir.VectorType(I8, 32), ir.VectorType(I64, 4)
    zeros = ir.Constant(quarter, [0] * quarter.count)
    add_bytes = function(b, 'llvm.x86.avx2.psad.bw', lanes, quarter, quarter)
    sums = []
    for i in range(4):
        index = ir.Constant(ir.VectorType(I32, 32), list(range(32 * i, 32 * i + 32)))
        part = b.shuffle_vector(counts, counts, index)
        sums.append(b.call(add_bytes, [part, zeros]))
    for size in (4, 8):
        index = ir.Constant(ir.VectorType(I32, 2 * size), list(range(2 * size)))
        sums = [
            b.shuffle_vector(low, high, index)
            for low, high in zip(sums[::2], sums[1::2], strict=True)
        ]
    return b.trunc(sums[0], INTS)


def carry(b: Any, x0: Any, x1: Any, ones: Any) -> Any:
    """Return the bits where two or three of x0, x1 and x2 are 1, given their XOR ``ones``.

    They are ``(x0 & x1) | ((x0 ^ x1) & ~ones)``, one instruction of AVX-512.

    Args:
        b (IRBuilder): The builder.
        x0 (Value): 16 lanes.
        x1 (Value): Likewise.
        ones (Value): Likewise.
    """
    if LANE == 32:
        kind = (COUNTS, COUNTS, COUNTS, COUNTS, I32)
        by_table = function(b, 'llvm.x86.avx512.pternlog.d.512', *kind)
        table = sum(1 << i for i in range(8) if i in (0b010, 0b100, 0b110, 0b111))
        return b.call(by_table, [x0, x1, ones, I32(table)])
    return b.or_(b.and_(x0, x1), b.and_(b.xor(x0, x1), b.not_(ones)))
