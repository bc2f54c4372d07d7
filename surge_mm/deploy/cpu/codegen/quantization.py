"""Quantization of consecutive numbers in LLVM IR, 16 at once.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.vectors import (
    F32,
    FLOATS,
    I8,
    I64,
    INTS,
    ROW,
    Row,
    function,
    splat,
)

BYTES = ir.VectorType(I8, ROW)


@intrinsic
def quantize_row(context, x, out, count, numbers):
    """Write ``min(max(rint(x inverse) + zero, 0), 255)``, and 0 for NaN, for consecutive numbers.

    Args:
        context (Context): Given by Numba.
        x (int): Address of the numbers, float32. Nothing beyond them is read.
        out (int): Address of the bytes.
        count (int): Number of them.
        numbers (int): Address of ``1 / step`` and of the byte that stands for 0, float32.
    """

    def codegen(context, b, signature, arguments):
        x, out, count, numbers = arguments
        rows, rest = b.udiv(count, I64(ROW)), b.urem(count, I64(ROW))
        numbers = b.inttoptr(numbers, F32.as_pointer())
        inverse, zero = (splat(b, b.load(b.gep(numbers, [I64(i)])), FLOATS) for i in range(2))
        smallest, largest = (ir.Constant(FLOATS, [limit] * ROW) for limit in (0.0, 255.0))
        rint = function(b, f'llvm.rint.v{ROW}f32', FLOATS, FLOATS)

        def bytes_of(row, index):
            y = b.fmul(row.load(b.add(x, b.mul(index, I64(4 * ROW)))), inverse)
            y = b.fadd(b.call(rint, [y]), zero)
            y = b.select(b.fcmp_ordered('>', y, smallest), y, smallest)
            y = b.select(b.fcmp_ordered('<', y, largest), y, largest)
            return b.trunc(b.fptosi(y, INTS), BYTES)

        with cgutils.for_range(b, rows, intp=I64) as loop:
            to = b.add(out, b.mul(loop.index, I64(ROW)))
            b.store(bytes_of(Row(b, None), loop.index), b.inttoptr(to, BYTES.as_pointer()), align=1)
        with b.if_then(b.icmp_unsigned('!=', rest, I64(0))):
            buffer = cgutils.alloca_once(b, BYTES)
            b.store(bytes_of(Row(b, rest), rows), buffer)
            to = b.inttoptr(b.add(out, b.mul(rows, I64(ROW))), I8.as_pointer())
            cgutils.raw_memcpy(b, to, b.bitcast(buffer, I8.as_pointer()), rest, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen
