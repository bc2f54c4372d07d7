"""Vectors of 16 counts or 16 channels in LLVM IR, which LLVM maps to the vector instructions of this CPU.

Addresses are int64. The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features

ROW = 16
"""Filters whose counts, and channels whose outputs, are computed in one vector."""


def _features() -> dict[str, bool]:
    """Return the features of the CPU that Numba compiles for, by LLVM's names.

    They are those of this CPU, without AVX if ``NUMBA_ENABLE_AVX`` is 0, or those of ``NUMBA_CPU_FEATURES``.
    """
    chosen: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    if chosen is None:
        chosen = get_host_cpu_features()
    return {name[1:]: name[0] == '+' for name in chosen.split(',') if name}


FEATURES = _features()
WIDE = bool(FEATURES.get('avx512f'))
BYTE_COUNTS = bool(FEATURES.get('neon'))
"""Whether bits are counted in bytes. NEON has a popcount of bytes alone, and 32 registers of 128 bits."""
BY_TABLES = bool(FEATURES.get('avx2') and not FEATURES.get('avx512vpopcntdq'))
"""Whether counts of bits are looked up for two pixels at once, as :mod:`.table_counts` does."""
PIXELS = 7 if WIDE and not BY_TABLES else 2
"""Neighboring pixels of a tile, whose counts for 16 filters stay in registers."""

I8, I16, I32, I64, F32 = (
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
FLOATS, INTS = ir.VectorType(F32, ROW), ir.VectorType(I32, ROW)


def splat(b: Any, value: Any, vector: ir.VectorType) -> Any:
    """Return a vector with the same value in each lane.

    Args:
        b (IRBuilder): The builder.
        value (Value): The value.
        vector (VectorType): Type of the vector.
    """
    undefined = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(undefined, value, I32(0))
    zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return b.shuffle_vector(first, undefined, zeros)


def function(b: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Return an LLVM intrinsic, declared in the module where it is first used.

    Args:
        b (IRBuilder): The builder.
        name (str): Name of the intrinsic.
        result (Type): Type of its result.
        *arguments (Type): Types of its arguments.
    """
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(result, arguments), name)


@contextmanager
def replace_if(b: Any, condition: Any, values: list[Any]) -> Iterator[list[Any]]:
    """Replace values where a condition holds.

    Args:
        b (IRBuilder): The builder.
        condition (Value): The condition.
        values (list[Value]): The values.

    Yields:
        list[Value]: A copy of ``values``, in which the body of the ``with`` puts the replacements. After it, the list
        has the values of either case.
    """
    before, replaced = b.block, list(values)
    with b.if_then(condition):
        yield replaced
        inside, others = b.block, list(replaced)
    for i, (value, other) in enumerate(zip(values, others, strict=True)):
        replaced[i] = b.phi(value.type)
        replaced[i].add_incoming(value, before)
        replaced[i].add_incoming(other, inside)


def load_row(b: Any, address: Any, vector: ir.VectorType = FLOATS) -> Any:
    """Return the vector at an address that is a multiple of 4.

    Args:
        b (IRBuilder): The builder.
        address (Value): The address.
        vector (VectorType): Type of the vector. Defaults to 16 of float32.
    """
    return b.load(b.inttoptr(address, vector.as_pointer()), align=4)


class Row:
    """Access to the channels of a vector in memory, or to fewer, without reading or writing what follows them.

    Args:
        b (IRBuilder): The builder.
        channels (Value, optional): Number of channels, less than ``lanes``. None for ``lanes``.
        lanes (int): Channels of a vector, 16 or 8. Defaults to 16.
    """

    def __init__(self, b: Any, channels: Any | None, lanes: int = ROW) -> None:
        self.b, self.channels = b, channels
        self.floats, self.ints = ir.VectorType(F32, lanes), ir.VectorType(I32, lanes)
        self.zeros = ir.Constant(self.floats, [0.0] * lanes)
        self.mask = ir.IntType(lanes)
        if channels is not None:
            self.buffer = cgutils.alloca_once_value(b, self.zeros)
            self.address = b.ptrtoint(self.buffer, I64)
            self.bytes = b.mul(channels, I64(4))
            bits = b.sub(b.shl(I64(1), channels), I64(1))
            self.bits = b.trunc(bits, self.mask)

    def load(self, address: Any) -> Any:
        """Return the float32 at an address, 0 in lanes without a channel.

        Args:
            address (Value): The address.
        """
        if self.channels is None:
            return load_row(self.b, address, self.floats)
        self.b.store(self.zeros, self.buffer)
        self._copy(self.address, address)
        return self.b.load(self.buffer)

    def store(self, y: Any, address: Any) -> None:
        """Store a vector.

        Args:
            y (Value): The numbers, float32.
            address (Value): The address.
        """
        if self.channels is None:
            self.b.store(y, self.b.inttoptr(address, self.floats.as_pointer()), align=4)
        else:
            self.b.store(y, self.buffer)
            self._copy(address, self.address)

    def store_bits(self, y: Any, address: Any) -> None:
        """Store the sign bits of a vector, 8 in a byte, 0 in the bits without a channel.

        Args:
            y (Value): The numbers, float32.
            address (Value): The address.
        """
        zeros = ir.Constant(self.ints, [0] * self.ints.count)
        negative = self.b.icmp_signed('<', self.b.bitcast(y, self.ints), zeros)
        self.store_mask(negative, address)

    def store_mask(self, negative: Any, address: Any) -> None:
        """Store one bit for each channel, 8 in a byte, 0 in the bits without a channel.

        Args:
            negative (Value): The bits, i1.
            address (Value): The address.
        """
        b = self.b
        bits = b.bitcast(negative, self.mask)
        if self.channels is not None:
            bits = b.and_(bits, self.bits)
        b.store(bits, b.inttoptr(address, self.mask.as_pointer()), align=1)

    def _copy(self, to: Any, source: Any) -> None:
        b = self.b
        to, source = (b.inttoptr(address, I8.as_pointer()) for address in (to, source))
        cgutils.raw_memcpy(b, to, source, self.bytes, 1)


def for_rows(b: Any, channels: Any, body: Callable[[Row, Any], None]) -> None:
    """Run ``body(row, index)`` for each 16 channels, and for the rest of them.

    Args:
        b (IRBuilder): The builder.
        channels (Value): Number of channels, int64.
        body (Callable): Body of the loop.
    """
    rows, rest = b.udiv(channels, I64(ROW)), b.urem(channels, I64(ROW))
    with cgutils.for_range(b, rows, intp=I64) as loop:
        body(Row(b, None), loop.index)
    with b.if_then(b.icmp_unsigned('!=', rest, I64(0))):
        body(Row(b, rest), rows)


def opaque(b: Any, value: Any) -> Any:
    """Return ``value`` hidden from the optimizer of LLVM.

    Otherwise LLVM keeps an address for each word of each pixel, instead of adding an index to the address of the pixel,
    and runs out of registers.

    Args:
        b (IRBuilder): The builder.
        value (Value): An int64.
    """
    return b.asm(ir.FunctionType(I64, [I64]), '', '=r,0', [value], False)
