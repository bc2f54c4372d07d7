"""Steps of the epilogue of a layer in LLVM IR, on vectors of 16 channels.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.vectors import (
    F32,
    FLOATS,
    I64,
    ROW,
    Row,
    for_rows,
    function,
    load_row,
    replace_if,
    splat,
)


def activate(b: Any, y: Any, rows: Sequence[Any]) -> Any:
    """Return ``clamp(max(y + p, 0) + slope min(y + p, 0) + c)``.

    Args:
        b (IRBuilder): The builder.
        y (Value): A vector of float32.
        rows (Sequence[Value]): p, slope, c, low and high, each a vector of that type.
    """
    p, slope, c, low, high = rows
    y = b.fadd(y, p)
    zeros = ir.Constant(y.type, [0.0] * y.type.count)
    y = b.select(b.fcmp_ordered('>', y, zeros), y, b.fmul(y, slope))
    y = b.fadd(y, c)
    y = b.select(b.fcmp_ordered('<', y, low), low, y)
    return b.select(b.fcmp_ordered('>', y, high), high, y)


def outputs_of_counts(
    b: Any,
    row: Row,
    numbers: Sequence[Any],
    counts: Sequence[Any],
    bases: Sequence[Any],
    shortcuts: Sequence[Any],
    has_shortcut: Any,
    is_activated: Any,
) -> list[Any]:
    """Return the outputs of pixels from their counts: with ``S = base - 2 count``::

        y = (m1 S + a1) m2 + a2 + shortcut
        y = activate(y)     if activated

    with one rounding for ``y m2 + a2`` where the CPU has it, as in PyTorch's batch norm.

    Args:
        b (IRBuilder): The builder.
        row (Row): The channels.
        numbers (Sequence[Value]): m1, a1, m2, a2, p, slope, c, low and high, each a vector of float32.
        counts (Sequence[Value]): The counts of each pixel, a vector of int32.
        bases (Sequence[Value]): Addresses of the sums of each pixel where no bit differs, int32.
        shortcuts (Sequence[Value]): Addresses of the shortcut of each pixel.
        has_shortcut (Value): Whether there is a shortcut.
        is_activated (Value): Whether there are steps after the shortcut.
    """  # noqa: D415  a formula ends the sentence
    m1, a1, m2, a2, *others = numbers
    lanes = row.ints.count
    fuse = function(b, f'llvm.fmuladd.v{lanes}f32', *[row.floats] * 4)
    outputs = []
    for count, base in zip(counts, bases, strict=True):
        doubled = b.shl(count, ir.Constant(row.ints, [1] * lanes))
        sums = b.sitofp(b.sub(load_row(b, base, row.ints), doubled), row.floats)
        outputs.append(b.call(fuse, [b.fadd(b.fmul(sums, m1), a1), m2, a2]))
    with replace_if(b, has_shortcut, outputs) as joined:
        for i, address in enumerate(shortcuts):
            joined[i] = b.fadd(outputs[i], row.load(address))
    outputs = joined
    with replace_if(b, is_activated, outputs) as joined:
        for i, y in enumerate(outputs):
            joined[i] = activate(b, y, others)
    return joined


def _finish(whole: bool) -> Any:
    """Return the intrinsic that finishes 16 channels of consecutive pixels, or fewer if it is not ``whole``.

    Steps::

        y = (x m1 + a1) m2 + a2
        y = activate(y)     if activates

    with one rounding for ``y m2 + a2`` where the CPU has it, and one for each other operation. m1, a1, m2, a2, p,
    slope, c, low and high are the rows of ``table``, ``row_bytes`` apart. Pixels are ``row_bytes`` apart too.
    ``channels`` is the number of channels if they are fewer than 16.
    """

    @intrinsic
    def finish(context, x, out, table, row_bytes, pixels, activates, channels):
        def codegen(context, b, signature, arguments):
            x, out, table, row_bytes, pixels, activates, channels = arguments
            row = Row(b, None if whole else channels)
            fuse = function(b, f'llvm.fmuladd.v{ROW}f32', FLOATS, FLOATS, FLOATS, FLOATS)
            m1, a1, m2, a2, *others = (
                row.load(b.add(table, b.mul(row_bytes, I64(i)))) for i in range(9)
            )
            with cgutils.for_range(b, pixels, intp=I64) as loop:
                at = b.mul(loop.index, row_bytes)
                y = b.fadd(b.fmul(row.load(b.add(x, at)), m1), a1)
                y = b.call(fuse, [y, m2, a2])
                with replace_if(b, b.icmp_unsigned('!=', activates, I64(0)), [y]) as replaced:
                    replaced[0] = activate(b, y, others)
                row.store(replaced[0], b.add(out, at))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), codegen

    return finish


finish_channels, finish_few_channels = _finish(True), _finish(False)


@intrinsic
def pool_channels(context, out, rows, n_rows, first, n_columns, channels):
    """Write the largest number of a window for each channel, or NaN if there is one; the first of equal numbers.

    Args:
        context (Context): Given by Numba.
        out (int): Address of the channels of an output pixel, float32.
        rows (int): Address of the addresses of the rows of the window.
        n_rows (int): Number of rows.
        first (int): First column of the window, in bytes from the address of a row.
        n_columns (int): Number of columns.
        channels (int): Number of channels.
    """

    def codegen(context, b, signature, arguments):
        out, rows, n_rows, first, n_columns, channels = arguments
        rows, step = b.inttoptr(rows, I64.as_pointer()), b.mul(channels, I64(4))

        def pool(row, block):
            at = b.mul(block, I64(4 * ROW))
            lowest = ir.Constant(FLOATS, [float('-inf')] * ROW)
            largest = cgutils.alloca_once_value(b, lowest)
            b.store(lowest, largest)
            with cgutils.for_range(b, n_rows, intp=I64) as over_rows:
                x = b.add(b.load(b.gep(rows, [over_rows.index])), b.add(first, at))
                with cgutils.for_range(b, n_columns, intp=I64) as over_columns:
                    y = row.load(b.add(x, b.mul(over_columns.index, step)))
                    so_far = b.load(largest)
                    larger = b.fcmp_ordered('>', y, so_far)
                    larger = b.or_(larger, b.fcmp_unordered('uno', y, y))
                    b.store(b.select(larger, y, so_far), largest)
            row.store(b.load(largest), b.add(out, at))

        for_rows(b, channels, pool)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@intrinsic
def average_channels(context, out, x, row_bytes, n_rows, n_columns, channels):
    """Write the average of a window for each channel: a sum from 0 on, row by row, and one division.

    The first NaN of a window is its average, with its bits.

    Args:
        context (Context): Given by Numba.
        out (int): Address of the channels of an output pixel, float32.
        x (int): Address of the first pixel of the window, float32.
        row_bytes (int): Bytes of a row of the input.
        n_rows (int): Number of rows.
        n_columns (int): Number of columns.
        channels (int): Number of channels.
    """

    def codegen(context, b, signature, arguments):
        out, x, row_bytes, n_rows, n_columns, channels = arguments
        step = b.mul(channels, I64(4))
        count = splat(b, b.sitofp(b.mul(n_rows, n_columns), F32), FLOATS)

        def average(row, block):
            at = b.mul(block, I64(4 * ROW))
            zero = ir.Constant(FLOATS, [0.0] * ROW)
            total = cgutils.alloca_once_value(b, zero)
            b.store(zero, total)
            with cgutils.for_range(b, n_rows, intp=I64) as over_rows:
                first = b.add(b.add(x, at), b.mul(over_rows.index, row_bytes))
                with cgutils.for_range(b, n_columns, intp=I64) as over_columns:
                    y = row.load(b.add(first, b.mul(over_columns.index, step)))
                    so_far = b.load(total)
                    is_nan = b.fcmp_unordered('uno', so_far, so_far)
                    b.store(b.select(is_nan, so_far, b.fadd(so_far, y)), total)
            row.store(b.fdiv(b.load(total), count), b.add(out, at))

        for_rows(b, channels, average)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen
