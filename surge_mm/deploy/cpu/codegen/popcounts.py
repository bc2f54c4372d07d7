"""Counts of bits that differ, summed over the words of a window, in LLVM IR.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from surge_mm.deploy.cpu.codegen.loops import loop
from surge_mm.deploy.cpu.codegen.vectors import COUNTS, I32, I64, INTS, LANE, ROW, function


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
        add (Callable): Adds the words of a step to counts of the type :data:`COUNTS`.
    """

    def step(i: Any, counts: list[Any]) -> list[Any]:
        return add(b.load(b.gep(steps, [i])), b.gep(w, [b.mul(i, I64(w_step))]), counts)

    zeros = [ir.Constant(COUNTS, [0] * ROW)] * n_counts
    counts = loop(b, I64(0), n_steps, 1, zeros, step)
    return counts if LANE == 32 else [b.trunc(count, INTS) for count in counts]


def popcount(b: Any, bits: Any) -> Any:
    """Return the number of ones in each lane.

    Args:
        b (IRBuilder): The builder.
        bits (Value): 16 lanes.
    """
    return b.call(function(b, f'llvm.ctpop.v{ROW}i{LANE}', COUNTS, COUNTS), [bits])


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
