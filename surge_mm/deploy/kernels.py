"""The loops over packed words, compiled by Numba for the CPU at hand.

A convolution goes tile by tile: ``PIXELS`` neighbours times ``8 * VECTORS`` filters, whose counts stay in registers
while the words of the window pass by. A word of 64 input channels meets 8 filters at once: ``popcount(a ^ w)`` of eight
64-bit lanes, one instruction on a CPU with AVX-512 VPOPCNTDQ. What follows the sums (scale, batch norm, shortcut,
activation, the next layer's sign bits) is done on a row of counts while it is in the cache.

Pointers are passed as integers; every array that they point into is an argument of the function that reads it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, ROW = 8, 16
"""Filters in a vector of counts, and channels in a vector of a row."""
FEATURES = binding.get_host_cpu_features()
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
BITS = ir.VectorType(ir.IntType(1), ROW)


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


_tile_of_pixels, _tile_of_one = _tile(PIXELS, VECTORS), _tile(1, VECTORS)


@intrinsic
def _finish(context, counts, base, table, width, shift, shortcut, out, signs, chunks):
    """A row of counts to real outputs and sign bits, 16 channels at a time; a pointer of 0 is left out.

    ``S = base - 2 counts``; the rows of ``table`` are m1, a1, m2, a2, p, slope, c, low, high, and then::

        y = (m1 S + a1) m2 + a2 + shortcut + p;  y = y > 0 ? y : slope y;
        out = clamp(y + c, low, high);  signs of out + shift

    with one rounding for ``y m2 + a2`` where the CPU can, as PyTorch's batch norm.
    """

    def codegen(context, b, signature, arguments):
        counts, base, table, width, shift, shortcut, out, signs, chunks = arguments
        fuse = _function(b, 'llvm.fmuladd.v16f32', FLOATS, FLOATS, FLOATS, FLOATS)
        zero = ir.Constant(FLOATS, [0.0] * ROW)
        with cgutils.for_range(b, chunks, intp=I64) as loop:
            at = b.mul(loop.index, I64(4 * ROW))

            def load(address, vector=FLOATS, at=at):
                return b.load(b.inttoptr(b.add(address, at), vector.as_pointer()), align=4)

            def row(i):
                return load(b.add(table, b.mul(width, I64(4 * i))))

            doubled = b.shl(load(counts, INTS), ir.Constant(INTS, [1] * ROW))
            y = b.sitofp(b.sub(load(base, INTS), doubled), FLOATS)
            y = b.call(fuse, [b.fadd(b.fmul(y, row(0)), row(1)), row(2), row(3)])
            entry = b.block
            with b.if_then(b.icmp_unsigned('!=', shortcut, I64(0))):
                added = b.fadd(y, load(shortcut))
                inside = b.block
            joined = b.phi(FLOATS)
            joined.add_incoming(y, entry)
            joined.add_incoming(added, inside)
            y = b.fadd(joined, row(4))
            y = b.select(b.fcmp_ordered('>', y, zero), y, b.fmul(y, row(5)))
            y = b.fadd(y, row(6))
            low, high = row(7), row(8)
            y = b.select(b.fcmp_ordered('<', y, low), low, y)
            y = b.select(b.fcmp_ordered('>', y, high), high, y)
            with b.if_then(b.icmp_unsigned('!=', out, I64(0))):
                b.store(y, b.inttoptr(b.add(out, at), FLOATS.as_pointer()), align=4)
            with b.if_then(b.icmp_unsigned('!=', signs, I64(0))):
                bits = _sign_bits(b, b.fadd(y, load(shift)))
                place = b.add(signs, b.mul(loop.index, I64(ROW // 8)))
                b.store(bits, b.inttoptr(place, I16.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), codegen


def _sign_bits(b: Any, y: Any) -> Any:
    negative = b.icmp_signed('<', b.bitcast(y, INTS), ir.Constant(INTS, [0] * ROW))
    return b.bitcast(negative, I16)


@intrinsic
def _pack_row(context, x, shift, signs, chunks):
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
def _copy(context, to, source, size):
    """Copy ``size`` bytes."""

    def codegen(context, b, signature, arguments):
        to, source, size = arguments
        cgutils.raw_memcpy(b, *(b.inttoptr(one, I8.as_pointer()) for one in (to, source)), size, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


def _compiled(**options: Any) -> Any:
    """``njit`` with its results kept on the disk, where there is a place for them."""

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # no folder is writable
            return njit(nogil=True, **options)(function)

    return decorate


class Convolution(NamedTuple):
    """All that a convolution reads and writes; :func:`surge_mm.deploy.engine.convolve` says what each is."""

    x: Any
    offsets: Any
    taps: Any
    run: int
    filters: Any
    base: Any
    kinds: Any
    table: Any
    channels: int
    shift: Any
    shortcut: Any
    out: Any
    signs: Any
    places: Any


@_compiled()
def convolve_tiles(work, first, last):
    """Tiles ``first`` to ``last``, counted through all images."""
    # addresses alone from here on: each use of an array would count its owners
    images = work.x.ctypes.data
    offsets, taps, filters = (
        work.offsets.ctypes.data,
        work.taps.ctypes.data,
        work.filters.ctypes.data,
    )
    base, table, shift = work.base.ctypes.data, work.table.ctypes.data, work.shift.ctypes.data
    shortcut = work.shortcut.ctypes.data if work.shortcut.size else 0
    out = work.out.ctypes.data if work.out.size else 0
    signs = work.signs.ctypes.data if work.signs.size else 0
    kinds, places = work.kinds, work.places
    image_bytes, signs_bytes = work.x.shape[1] * 8, work.signs.shape[1]
    pixels, width, channels, run = len(kinds), work.table.shape[1], work.channels, work.run
    groups, blocks, n_taps = work.filters.shape[0], work.filters.shape[1], work.taps.shape[1]
    filter_bytes = work.filters.shape[2] * LANES * VECTORS * 8
    per_group, padded = channels // groups, width // groups
    whole = per_group // ROW * ROW
    left_over, done = (per_group - whole) * 4, whole * 4
    together = min(PIXELS, pixels)
    tiles = (pixels + together - 1) // together
    room = np.empty(PIXELS * width + 2 * ROW, np.int32)
    counts = room.ctypes.data
    rest = counts + PIXELS * width * 4
    beside_rest = rest + ROW * 4

    for index in range(first, last):
        image = index // tiles
        # the last tile reaches back over some pixels of the one before
        start = min(index % tiles * together, pixels - together)
        words = images + image * image_bytes
        for g in range(groups):
            own_taps = taps + g * n_taps * 8
            for block in range(blocks):
                w = filters + (g * blocks + block) * filter_bytes
                to = counts + (g * padded + block * LANES * VECTORS) * 4
                if together == PIXELS:
                    _tile_of_pixels(
                        words, offsets + start * 8, own_taps, n_taps, run, w, to, width * 4
                    )
                else:
                    for p in range(together):
                        at, row = offsets + (start + p) * 8, to + p * width * 4
                        _tile_of_one(words, at, own_taps, n_taps, run, w, row, 0)
        for p in range(together):
            pixel = start + p
            for g in range(groups):
                own = g * padded * 4
                row, row_base = counts + p * width * 4 + own, base + kinds[pixel] * width * 4 + own
                at = ((image * pixels + pixel) * channels + g * per_group) * 4
                beside = shortcut + at if shortcut else 0
                real = out + at if out else 0
                bits = (
                    signs + image * signs_bytes + places[pixel] + g * per_group // 8 if signs else 0
                )
                steps, own_shift = table + own, shift + own
                _finish(row, row_base, steps, width, own_shift, beside, real, bits, whole // ROW)
                if left_over:
                    if shortcut:
                        _copy(beside_rest, beside + done, left_over)
                        beside = beside_rest
                    _finish(
                        row + done,
                        row_base + done,
                        steps + done,
                        width,
                        own_shift,
                        beside,
                        rest,
                        0,
                        1,
                    )
                    _copy(real + done, rest, left_over)


@_compiled(parallel=True)
def convolve_parallel(work, tiles, threads):
    """All ``tiles``, on several threads."""
    for t in prange(threads):
        convolve_tiles(work, t * tiles // threads, (t + 1) * tiles // threads)


@_compiled()
def pack_pixels(x, shift, groups, signs, places, first, last):
    """Pixels ``first`` to ``last``, counted through all images."""
    _, pixels, channels = x.shape
    per_group = channels // groups
    group_bytes = (per_group + 63) // 64 * 8
    whole = per_group // ROW * ROW
    for index in range(first, last):
        image, pixel = index // pixels, index % pixels
        for g in range(groups):
            channel = g * per_group
            place = places[pixel] + g * group_bytes
            _pack_row(
                x.ctypes.data + (index * channels + channel) * 4,
                shift.ctypes.data + channel * 4,
                signs.ctypes.data + image * signs.shape[1] + place,
                whole // ROW,
            )
            for i in range(whole, per_group):
                y = np.float32(x[image, pixel, channel + i] + shift[channel + i])
                bit = np.uint8(y < 0 or (y == 0 and 1 / y < 0))  # of -0.0 too
                signs[image, place + i // 8] |= bit << np.uint8(i % 8)


@_compiled(parallel=True)
def pack_parallel(x, shift, groups, signs, places, threads):
    """All pixels, on several threads."""
    rows = x.shape[0] * x.shape[1]
    for t in prange(threads):
        first, last = t * rows // threads, (t + 1) * rows // threads
        pack_pixels(x, shift, groups, signs, places, first, last)
