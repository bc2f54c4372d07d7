"""Memory by its addresses, in LLVM's own terms: words, sign bits, counters that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.vector_codegen import I32, I64, ROW, Row, load_row


@intrinsic
def parities(context, words, beside, to, n):
    """``to[i] = words[i] ^ words[i + beside] ^ words[i + 2 beside]`` for i below n; no word behind these is read."""

    def codegen(context, b, signature, arguments):
        words, beside, to, n = arguments
        eight = ir.VectorType(I64, 8)

        def each(start, end, kind, step):
            with cgutils.for_range_slice(b, start, end, I64(step), intp=I64) as (i, _):
                x = b.xor(at(words, i, kind), at(words, b.add(i, beside), kind))
                x = b.xor(x, at(words, b.add(i, b.add(beside, beside)), kind))
                b.store(x, place(to, i, kind), align=8)

        def place(address, i, kind):
            return b.inttoptr(b.add(address, b.mul(i, I64(8))), kind.as_pointer())

        def at(address, i, kind):
            return b.load(place(address, i, kind), align=8)

        whole = b.and_(n, I64(-8))
        each(I64(0), whole, eight, 8)
        each(whole, n, I64, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def pack_rows(context, x, shift, signs, rows):
    """The sign bits of ``x + shift``, 16 channels at a time."""

    def codegen(context, b, signature, arguments):
        x, shift, signs, rows = arguments
        row = Row(b, None)
        with cgutils.for_range(b, rows, intp=I64) as loop:
            at = b.mul(loop.index, I64(4 * ROW))
            place = b.add(signs, b.mul(loop.index, I64(ROW // 8)))
            row.store_bits(b.fadd(row.load(b.add(x, at)), load_row(b, b.add(shift, at))), place)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def pack_rest(context, x, shift, signs, channels):
    """The sign bits of ``x + shift``, the first few of 16."""

    def codegen(context, b, signature, arguments):
        x, shift, signs, channels = arguments
        row = Row(b, channels)
        row.store_bits(b.fadd(row.load(x), row.load(shift)), signs)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def load(context, address):
    """The whole number at ``address``."""

    def codegen(context, b, signature, arguments):
        return b.load(b.inttoptr(arguments[0], I64.as_pointer()))

    return types.int64(types.int64), codegen


def loads(n: int) -> Any:
    """The intrinsic for the n whole numbers at an address, as a tuple."""

    @intrinsic
    def load_all(context, address):
        def codegen(context, b, signature, arguments):
            first = b.inttoptr(arguments[0], I64.as_pointer())
            found = [b.load(b.gep(first, [I64(i)])) for i in range(n)]
            return context.make_tuple(b, signature.return_type, found)

        return types.UniTuple(types.int64, n)(types.int64), codegen

    return load_all


@intrinsic
def address_of(context, pointer):
    """A pointer as a whole number."""

    def codegen(context, b, signature, arguments):
        return b.ptrtoint(arguments[0], I64)

    return types.int64(pointer), codegen


@intrinsic
def add_one(context, address):
    """The whole number at ``address``, and let who comes next on any thread find one more there."""

    def codegen(context, b, signature, arguments):
        counter = b.inttoptr(arguments[0], I64.as_pointer())
        return b.atomic_rmw('add', counter, I64(1), 'seq_cst')

    return types.int64(types.int64), codegen


@intrinsic
def load_shared(context, address):
    """The whole number at ``address`` as other threads have left it, and what they wrote before."""

    def codegen(context, b, signature, arguments):
        counter = b.inttoptr(arguments[0], I64.as_pointer())
        return b.load_atomic(counter, 'seq_cst', 8)

    return types.int64(types.int64), codegen


@intrinsic
def call(context, function):
    """What the C function at that address gives, of no arguments, a whole number."""

    def codegen(context, b, signature, arguments):
        kind = ir.FunctionType(I32, [])
        return b.sext(b.call(b.inttoptr(arguments[0], kind.as_pointer()), []), I64)

    return types.int64(types.int64), codegen
