"""Vectors of eight counts and of sixteen channels, written in LLVM's own terms, which LLVM fits to the CPU at hand.

Addresses are passed as whole numbers. The compiled loops of :mod:`surge_mm.deploy.kernels` are kept on the disk until
that file changes: touch it after a change here.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

LANES, ROW = 8, 16
"""Filters in a vector of counts, and channels in a vector of a row."""


def _features() -> dict[str, bool]:
    """Those of the CPU that Numba compiles for: the one at hand, or what ``NUMBA_CPU_FEATURES`` says."""
    chosen: str | None = config.CPU_FEATURES  # type: ignore[attr-defined]
    if chosen is None:
        return dict(binding.get_host_cpu_features())
    return {one[1:]: one[0] == '+' for one in chosen.split(',') if one}


FEATURES = _features()
WIDE = bool(FEATURES.get('avx512f'))
PIXELS, VECTORS = (7, 2) if WIDE else (2, 1)
"""As many as the registers hold: 32 of 512 bits, or 16 of 256, of which a vector of counts takes two."""

I8, I16, I32, I64, F32 = (
    ir.IntType(8),
    ir.IntType(16),
    ir.IntType(32),
    ir.IntType(64),
    ir.FloatType(),
)
COUNTS, COUNTS32 = ir.VectorType(I64, LANES), ir.VectorType(I32, LANES)
FLOATS, INTS = ir.VectorType(F32, ROW), ir.VectorType(I32, ROW)


def _splat(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, I32(0))
    return builder.shuffle_vector(
        one, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    )


def _function(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _tile(pixels: int, vectors: int) -> Any:
    """``counts[p, f] = sum over taps t and words k of popcount(x[offsets[p] + taps[t] + k] ^ w[t, k, f])``."""

    @intrinsic
    def tile(context, x, offsets, taps, n_taps, run, w, counts, stride):
        def codegen(context, b, signature, arguments):
            x, offsets, taps, n_taps, run, w, counts, stride = arguments
            words = b.inttoptr(x, I64.as_pointer())
            offsets = b.inttoptr(offsets, I64.as_pointer())
            taps = b.inttoptr(taps, I64.as_pointer())
            w = b.inttoptr(w, COUNTS.as_pointer())
            popcount = _function(b, 'llvm.ctpop.v8i64', COUNTS, COUNTS)
            pixel = [b.gep(words, [b.load(b.gep(offsets, [I64(p)]))]) for p in range(pixels)]
            before = b.block
            tap_loop, word_loop, next_tap, done = (
                b.append_basic_block(name) for name in ('tap', 'word', 'next', 'done')
            )
            b.branch(tap_loop)

            b.position_at_end(tap_loop)
            tap, w_tap = b.phi(I64), b.phi(w.type)
            at_tap = [b.phi(COUNTS) for _ in range(pixels * vectors)]
            tap.add_incoming(I64(0), before)
            w_tap.add_incoming(w, before)
            for phi in at_tap:
                phi.add_incoming(ir.Constant(COUNTS, [0] * LANES), before)
            here = b.load(b.gep(taps, [tap]))
            rows = [b.gep(one, [here]) for one in pixel]
            b.branch(word_loop)

            b.position_at_end(word_loop)
            k, w_word = b.phi(I64), b.phi(w.type)
            at_word = [b.phi(COUNTS) for _ in range(pixels * vectors)]
            k.add_incoming(I64(0), tap_loop)
            w_word.add_incoming(w_tap, tap_loop)
            for phi, outer in zip(at_word, at_tap, strict=True):
                phi.add_incoming(outer, tap_loop)
            filters = [b.load(b.gep(w_word, [I64(v)]), align=8) for v in range(vectors)]
            after = []
            for p in range(pixels):
                word = _splat(b, b.load(b.gep(rows[p], [k])), COUNTS)
                for v in range(vectors):
                    differing = b.call(popcount, [b.xor(word, filters[v])])
                    after.append(b.add(at_word[p * vectors + v], differing))
            k_next, w_next = b.add(k, I64(1)), b.gep(w_word, [I64(vectors)])
            k.add_incoming(k_next, word_loop)
            w_word.add_incoming(w_next, word_loop)
            for phi, new in zip(at_word, after, strict=True):
                phi.add_incoming(new, word_loop)
            b.cbranch(b.icmp_signed('<', k_next, run), word_loop, next_tap)

            b.position_at_end(next_tap)
            tap_next = b.add(tap, I64(1))
            tap.add_incoming(tap_next, next_tap)
            w_tap.add_incoming(w_next, next_tap)
            for phi, new in zip(at_tap, after, strict=True):
                phi.add_incoming(new, next_tap)
            b.cbranch(b.icmp_signed('<', tap_next, n_taps), tap_loop, done)

            b.position_at_end(done)
            for p in range(pixels):
                row = b.inttoptr(b.add(counts, b.mul(stride, I64(p))), COUNTS32.as_pointer())
                for v in range(vectors):
                    b.store(
                        b.trunc(after[p * vectors + v], COUNTS32), b.gep(row, [I64(v)]), align=4
                    )
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), codegen

    return tile


tile_of_pixels, tile_of_one = _tile(PIXELS, VECTORS), _tile(1, VECTORS)


@intrinsic
def finish(
    context,
    counts,
    width,
    base,
    kinds,
    table,
    shift,
    shortcut,
    out,
    stride,
    signs,
    places,
    chunks,
    pixels,
):
    """Rows of counts to real outputs and sign bits, 16 channels at a time; an address of 0 is left out.

    ``S = base - 2 counts``; the rows of ``table`` are m1, a1, m2, a2, p, slope, c, low, high, and then::

        y = (m1 S + a1) m2 + a2 + shortcut + p;  y = y > 0 ? y : slope y
        out = clamp(y + c, low, high);  signs of out + shift

    with one rounding for ``y m2 + a2`` where the CPU can, as PyTorch's batch norm. Rows of counts, ``base`` and
    ``table`` are ``width`` numbers apart, those of ``shortcut`` and ``out`` ``stride`` bytes; pixel i has the row
    ``kinds[i]`` of ``base``, and its signs begin at ``signs + places[i]``.
    """

    def codegen(context, b, signature, arguments):
        (
            counts,
            width,
            base,
            kinds,
            table,
            shift,
            shortcut,
            out,
            stride,
            signs,
            places,
            chunks,
            pixels,
        ) = arguments
        kinds, places = (b.inttoptr(one, I64.as_pointer()) for one in (kinds, places))
        fuse = _function(b, 'llvm.fmuladd.v16f32', FLOATS, FLOATS, FLOATS, FLOATS)
        zero = ir.Constant(FLOATS, [0.0] * ROW)
        row_bytes = b.mul(width, I64(4))

        def load(address, vector=FLOATS):
            return b.load(b.inttoptr(address, vector.as_pointer()), align=4)

        with cgutils.for_range(b, chunks, intp=I64) as chunk:
            at = b.mul(chunk.index, I64(4 * ROW))
            steps = [load(b.add(b.add(table, b.mul(row_bytes, I64(i))), at)) for i in range(9)]
            m1, a1, m2, a2, p, slope, c, low, high = steps
            next_shift = load(b.add(shift, at))
            with cgutils.for_range(b, pixels, intp=I64) as pixel:
                own = b.add(b.mul(pixel.index, stride), at)
                row = b.add(b.mul(pixel.index, row_bytes), at)
                kind = b.load(b.gep(kinds, [pixel.index]))
                doubled = b.shl(load(b.add(counts, row), INTS), ir.Constant(INTS, [1] * ROW))
                most = load(b.add(base, b.add(b.mul(kind, row_bytes), at)), INTS)
                y = b.sitofp(b.sub(most, doubled), FLOATS)
                y = b.call(fuse, [b.fadd(b.fmul(y, m1), a1), m2, a2])
                before = b.block
                with b.if_then(b.icmp_unsigned('!=', shortcut, I64(0))):
                    added = b.fadd(y, load(b.add(shortcut, own)))
                    inside = b.block
                joined = b.phi(FLOATS)
                joined.add_incoming(y, before)
                joined.add_incoming(added, inside)
                y = b.fadd(joined, p)
                y = b.select(b.fcmp_ordered('>', y, zero), y, b.fmul(y, slope))
                y = b.fadd(y, c)
                y = b.select(b.fcmp_ordered('<', y, low), low, y)
                y = b.select(b.fcmp_ordered('>', y, high), high, y)
                with b.if_then(b.icmp_unsigned('!=', out, I64(0))):
                    b.store(y, b.inttoptr(b.add(out, own), FLOATS.as_pointer()), align=4)
                with b.if_then(b.icmp_unsigned('!=', signs, I64(0))):
                    bits = _sign_bits(b, b.fadd(y, next_shift))
                    place = b.add(signs, b.load(b.gep(places, [pixel.index])))
                    place = b.add(place, b.mul(chunk.index, I64(ROW // 8)))
                    b.store(bits, b.inttoptr(place, I16.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13), codegen


def _sign_bits(b: Any, y: Any) -> Any:
    negative = b.icmp_signed('<', b.bitcast(y, INTS), ir.Constant(INTS, [0] * ROW))
    return b.bitcast(negative, I16)


@intrinsic
def pack_row(context, x, shift, signs, chunks):
    """The sign bits of ``x + shift``, 16 channels at a time."""

    def codegen(context, b, signature, arguments):
        x, shift, signs, chunks = arguments
        with cgutils.for_range(b, chunks, intp=I64) as loop:
            at = b.mul(loop.index, I64(4 * ROW))
            y, s = (
                b.load(b.inttoptr(b.add(one, at), FLOATS.as_pointer()), align=4)
                for one in (x, shift)
            )
            place = b.add(signs, b.mul(loop.index, I64(ROW // 8)))
            b.store(_sign_bits(b, b.fadd(y, s)), b.inttoptr(place, I16.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def load(context, address):
    """The whole number at ``address``."""

    def codegen(context, b, signature, arguments):
        return b.load(b.inttoptr(arguments[0], I64.as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def address_of(context, pointer):
    """A pointer as a whole number."""

    def codegen(context, b, signature, arguments):
        return b.ptrtoint(arguments[0], I64)

    return types.int64(pointer), codegen


@intrinsic
def take_one(context, address):
    """The whole number at ``address``, and let the next caller on any thread find one more there."""

    def codegen(context, b, signature, arguments):
        counter = b.inttoptr(arguments[0], I64.as_pointer())
        return b.atomic_rmw('add', counter, I64(1), 'monotonic')

    return types.int64(types.int64), codegen


@intrinsic
def copy(context, to, source, size):
    """Copy ``size`` bytes."""

    def codegen(context, b, signature, arguments):
        to, source, size = arguments
        cgutils.raw_memcpy(b, *(b.inttoptr(one, I8.as_pointer()) for one in (to, source)), size, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen
