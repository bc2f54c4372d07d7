"""Memory access by address, written in LLVM IR: words, sign bits, counters that threads share.

Each function but :func:`keep` is a Numba intrinsic. The parameter ``context`` is the typing context of Numba, which
callers do not pass. Addresses are int64.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.vectors import I32, I64, ROW, for_rows
from surge_mm.deploy.cpu.kernel_cache import compiled


@intrinsic
def pack_signs(context, x, shift, signs, channels):
    """Write the sign bits of ``x + shift``, 16 channels at a time. Bits after the last channel are 0.

    Args:
        context (Context): Given by Numba.
        x (int): Address of the channels of a pixel, float32. Nothing beyond them is read.
        shift (int): Address of a shift per channel, float32.
        signs (int): Address of the bits, 2 bytes for 16 channels.
        channels (int): Number of channels.
    """

    def codegen(context, b, signature, arguments):
        x, shift, signs, channels = arguments

        def pack(row, index):
            at = b.mul(index, I64(4 * ROW))
            y = b.fadd(row.load(b.add(x, at)), row.load(b.add(shift, at)))
            row.store_bits(y, b.add(signs, b.mul(index, I64(ROW // 8))))

        for_rows(b, channels, pack)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def load(context, address):
    """Return the int64 at an address.

    Args:
        context (Context): Given by Numba.
        address (int): The address.
    """

    def codegen(context, b, signature, arguments):
        return b.load(b.inttoptr(arguments[0], I64.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def store(context, address, value):
    """Write an int64 to an address.

    Args:
        context (Context): Given by Numba.
        address (int): The address.
        value (int): The number.
    """

    def codegen(context, b, signature, arguments):
        address, value = arguments
        b.store(value, b.inttoptr(address, I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def load_tuple(n: int) -> Any:
    """Return the intrinsic that loads n int64 from an address as a tuple.

    Args:
        n (int): Length of the tuple.
    """

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
    """Return a pointer as an int64.

    Args:
        context (Context): Given by Numba.
        pointer (CPointer): The pointer.
    """

    def codegen(context, b, signature, arguments):
        return b.ptrtoint(arguments[0], I64)

    return types.int64(pointer), codegen


@intrinsic
def pointer(context, address):
    """Return an address as the pointer that ``numba.carray`` takes.

    Args:
        context (Context): Given by Numba.
        address (int): The address.
    """

    def codegen(context, b, signature, arguments):
        return b.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def add_one(context, address):
    """Add 1 to the int64 at an address atomically, and return its value before.

    Args:
        context (Context): Given by Numba.
        address (int): The address.
    """

    def codegen(context, b, signature, arguments):
        counter = b.inttoptr(arguments[0], I64.as_pointer())
        return b.atomic_rmw('add', counter, I64(1), 'seq_cst')

    return types.int64(types.int64), codegen


@intrinsic
def load_shared(context, address):
    """Return the int64 at an address atomically; what other threads wrote before it is visible from here on.

    Args:
        context (Context): Given by Numba.
        address (int): The address.
    """

    def codegen(context, b, signature, arguments):
        counter = b.inttoptr(arguments[0], I64.as_pointer())
        return b.load_atomic(counter, 'seq_cst', 8)

    return types.int64(types.int64), codegen


@intrinsic
def call(context, function):
    """Call a C function ``int f(void)`` and return its result as an int64.

    Args:
        context (Context): Given by Numba.
        function (int): Address of the function.
    """

    def codegen(context, b, signature, arguments):
        signature_in_c = ir.FunctionType(I32, [])
        pointer = b.inttoptr(arguments[0], signature_in_c.as_pointer())
        return b.sext(b.call(pointer, []), I64)

    return types.int64(types.int64), codegen


@compiled
def keep(array):
    """Use an array, so that Numba does not free it before this call. Numba does not see uses by address."""
    return array.size
