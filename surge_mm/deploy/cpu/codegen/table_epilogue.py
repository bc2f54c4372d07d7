"""Outputs and sign bits of a line of pixels from counts in memory, in LLVM IR: the epilogue behind counts by tables.

AVX2 has 16 registers of 8 numbers. The numbers of 8 filters stay in 10 of them, while the loop goes from one pixel to
the next. A tile of 16 filters, as in :mod:`.tiles`, would read them again for each pair of pixels.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.epilogue import outputs_of_counts
from surge_mm.deploy.cpu.codegen.table_counts import PIXEL_BYTES
from surge_mm.deploy.cpu.codegen.vectors import I64, Row, load_row

LANES = 8
"""Filters of a register."""


def _finish(whole: bool) -> Any:
    """Return the intrinsic that finishes 8 filters of consecutive pixels, or fewer than 8 if it is not ``whole``.

    Outputs and signs are those of a tile; see :func:`surge_mm.deploy.cpu.codegen.tiles._tile`, which also states most
    of the arguments. ``counts`` is the address of the counts of the first pixel, and ``pixels`` the number of pixels.
    """

    @intrinsic
    def finish(
        context,
        counts,
        pixels,
        borders,
        places,
        shortcut,
        out,
        base,
        table,
        width,
        shift,
        activated,
        stride,
        signs,
        thresholds,
        channels,
    ):
        def codegen(context, b, signature, arguments):
            counts, pixels, borders, places, *steps, signs, thresholds, channels = arguments
            borders, places = (
                b.inttoptr(address, I64.as_pointer()) for address in (borders, places)
            )
            row = Row(b, None if whole else channels, LANES)
            at = counts, pixels, borders, places, signs
            with b.if_else(b.icmp_unsigned('!=', thresholds, I64(0))) as (by_limits, by_steps):
                with by_limits:
                    _compare(b, row, *at, thresholds, steps[4])
                with by_steps:
                    _compute(b, row, *at, *steps)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 15), codegen

    return finish


def _compare(
    b: Any,
    row: Row,
    counts: Any,
    pixels: Any,
    borders: Any,
    places: Any,
    signs: Any,
    thresholds: Any,
    width: Any,
) -> None:
    """Write the signs by the thresholds of the counts."""
    row_bytes = b.mul(width, I64(4))
    zeros = ir.Constant(row.ints, [0] * LANES)
    rises = b.icmp_signed('!=', load_row(b, thresholds, row.ints), zeros)
    first = b.add(thresholds, row_bytes)
    with cgutils.for_range(b, pixels, intp=I64) as loop:
        i = loop.index
        count = load_row(b, b.add(counts, b.mul(i, I64(PIXEL_BYTES))), row.ints)
        limit = b.add(first, b.mul(b.load(b.gep(borders, [i])), row_bytes))
        above = b.icmp_signed('>', count, load_row(b, limit, row.ints))
        row.store_mask(b.xor(above, rises), b.add(signs, b.load(b.gep(places, [i]))))


def _compute(
    b: Any,
    row: Row,
    counts: Any,
    pixels: Any,
    borders: Any,
    places: Any,
    signs: Any,
    shortcut: Any,
    out: Any,
    base: Any,
    table: Any,
    width: Any,
    shift: Any,
    activated: Any,
    stride: Any,
) -> None:
    """Compute the outputs, and write those and the signs that are wanted."""
    row_bytes = b.mul(width, I64(4))
    numbers = [load_row(b, b.add(table, b.mul(row_bytes, I64(i))), row.floats) for i in range(9)]
    next_shift = load_row(b, shift, row.floats)
    has_shortcut, has_out, has_signs, is_activated = (
        b.icmp_unsigned('!=', value, I64(0)) for value in (shortcut, out, signs, activated)
    )
    with cgutils.for_range(b, pixels, intp=I64) as loop:
        i = loop.index
        at = b.mul(i, stride)
        count = load_row(b, b.add(counts, b.mul(i, I64(PIXEL_BYTES))), row.ints)
        border = b.add(base, b.mul(b.load(b.gep(borders, [i])), row_bytes))
        (y,) = outputs_of_counts(
            b, row, numbers, [count], [border], [b.add(shortcut, at)], has_shortcut, is_activated
        )
        with b.if_then(has_out):
            row.store(y, b.add(out, at))
        with b.if_then(has_signs):
            place = b.add(signs, b.load(b.gep(places, [i])))
            row.store_bits(b.fadd(y, next_shift), place)


finish_filters, finish_few_filters = _finish(True), _finish(False)
