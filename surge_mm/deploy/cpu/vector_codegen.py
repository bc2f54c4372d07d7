"""Vectors of sixteen counts and of sixteen channels, in LLVM's own terms, which LLVM fits to the CPU at hand.

Addresses are whole numbers. The compiled loops of :mod:`.kernels` are kept on the disk until that file changes:
touch it after a change here, in :mod:`.tile_codegen` or in :mod:`.memory_intrinsics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features

ROW = 16
"""Filters that a word meets at once, and channels that are finished at once."""


def _features() -> dict[str, bool]:
    """Those of the CPU that Numba compiles for.

    They are those of the one at hand, without AVX if ``NUMBA_ENABLE_AVX`` is 0, or what ``NUMBA_CPU_FEATURES`` says.
    """
    chosen: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    if chosen is None:
        chosen = get_host_cpu_features()
    return {one[1:]: one[0] == '+' for one in chosen.split(',') if one}


FEATURES = _features()
WIDE = bool(FEATURES.get('avx512f'))
LANE = 32 if FEATURES.get('avx512vpopcntdq') else 64
"""Bits that are counted as one: LLVM's popcount without an instruction for it adds up bytes to words of 64."""
PIXELS = 7 if WIDE else 2
"""Neighbours whose counts for a row of filters stay in registers."""

I8, I16, I32, I64, F32 = (
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
HALVES = 64 // LANE
BITS = ir.IntType(LANE)
COUNTS = ir.VectorType(BITS, ROW)
FLOATS, INTS = ir.VectorType(F32, ROW), ir.VectorType(I32, ROW)


def splat(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    )


def function(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


@contextmanager
def either(b: Any, condition: Any, values: list[Any]) -> Iterator[list[Any]]:
    """Other ``values`` if the condition holds, set within; afterwards the list has those that came out."""
    before, others = b.block, list(values)
    with b.if_then(condition):
        yield others
        inside, found = b.block, list(others)
    for i, (value, other) in enumerate(zip(values, found, strict=True)):
        others[i] = b.phi(value.type)
        others[i].add_incoming(value, before)
        others[i].add_incoming(other, inside)


def load_row(b: Any, address: Any, vector: ir.VectorType = FLOATS) -> Any:
    return b.load(b.inttoptr(address, vector.as_pointer()), align=4)


class Row:
    """16 channels in memory, or the first few of them: what lies behind is neither read nor written."""

    def __init__(self, b: Any, channels: Any | None) -> None:
        self.b, self.channels = b, channels
        if channels is not None:
            self.room = cgutils.alloca_once_value(b, ir.Constant(FLOATS, [0.0] * ROW))
            self.address = b.ptrtoint(self.room, I64)
            self.bytes = b.mul(channels, I64(4))
            bits = b.sub(b.shl(I64(1), channels), I64(1))
            self.bits = b.trunc(bits, I16)

    def load(self, address: Any) -> Any:
        """Floats; 0 where there is no channel."""
        if self.channels is None:
            return load_row(self.b, address)
        self.b.store(ir.Constant(FLOATS, [0.0] * ROW), self.room)
        self._copy(self.address, address)
        return self.b.load(self.room)

    def store(self, y: Any, address: Any) -> None:
        if self.channels is None:
            self.b.store(y, self.b.inttoptr(address, FLOATS.as_pointer()), align=4)
        else:
            self.b.store(y, self.room)
            self._copy(address, self.address)

    def store_bits(self, y: Any, address: Any) -> None:
        """Sign bits, 16 of them: 0 where there is no channel."""
        b = self.b
        negative = b.icmp_signed('<', b.bitcast(y, INTS), ir.Constant(INTS, [0] * ROW))
        bits = b.bitcast(negative, I16)
        if self.channels is not None:
            bits = b.and_(bits, self.bits)
        b.store(bits, b.inttoptr(address, I16.as_pointer()), align=1)

    def _copy(self, to: Any, source: Any) -> None:
        b = self.b
        to, source = (b.inttoptr(one, I8.as_pointer()) for one in (to, source))
        cgutils.raw_memcpy(b, to, source, self.bytes, 1)
