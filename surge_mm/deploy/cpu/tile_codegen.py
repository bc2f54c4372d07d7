"""A tile of a convolution, from words to outputs, in registers: written in LLVM's own terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from surge_mm.deploy.cpu.vector_codegen import (
    BITS,
    COUNTS,
    FLOATS,
    HALVES,
    I32,
    I64,
    INTS,
    LANE,
    PIXELS,
    ROW,
    Row,
    either,
    function,
    load_row,
    splat,
)


def _tile(pixels: int, whole: bool) -> Any:
    """The intrinsic for so many pixels and 16 filters, or for the first few of 16.

    First the counts, over the ``n_steps`` words of a window::

        count[p, f] = sum popcount(x[i, p] ^ w[i, f]);  x[i, p] = words[offsets[p] + steps[i]]

    or, of a kernel three wide, over the words of its first column, with two popcounts for three words::

        odd = x[i, p] ^ x'[i, p] ^ x''[i, p] ^ w[i, f] ^ w'[i, f] ^ w''[i, f]     1 and 3 of three bits differ
        two = where two or three of x ^ w, x' ^ w', x'' ^ w'' are 1
        count[p, f] = sum popcount(odd) + 2 popcount(two)

    x' lies ``beside`` words behind x, and ``parity`` words behind x lies x ^ x' ^ x'', which :func:`.memory.parities`
    writes; w ^ w' ^ w'' takes the place of w''. ``beside`` is 0 where it is to go word by word.

    Then real outputs and sign bits; an address of 0 is left out. ``S = base - 2 count``; the rows of ``table`` are m1,
    a1, m2, a2, p, slope, c, low, high::

        y = (m1 S + a1) m2 + a2 + shortcut
        y = y + p;  y = y > 0 ? y : slope y;  y = clamp(y + c, low, high)     if activated
        out = y;  signs of y + shift

    with one rounding for ``y m2 + a2`` where the CPU can, as PyTorch's batch norm. Rows of ``base`` and ``table`` are
    ``width`` numbers apart, those of ``shortcut`` and ``out`` ``stride`` bytes; pixel i has the row ``kinds[i]`` of
    ``base``, and its signs begin at ``signs + places[i]``.
    """

    @intrinsic
    def tile(
        context,
        words,
        offsets,
        steps,
        n_steps,
        beside,
        parity,
        w,
        base,
        kinds,
        table,
        width,
        shift,
        activated,
        shortcut,
        out,
        stride,
        signs,
        places,
        channels,
    ):
        def codegen(context, b, signature, arguments):
            words, offsets, steps, n_steps, beside, parity, w, *others = arguments
            words = b.inttoptr(words, I64.as_pointer())
            offsets, steps = (b.inttoptr(one, I64.as_pointer()) for one in (offsets, steps))
            pixel = [b.gep(words, [b.load(b.gep(offsets, [I64(p)]))]) for p in range(pixels)]
            w = b.inttoptr(w, COUNTS.as_pointer())
            with b.if_else(b.icmp_unsigned('!=', beside, I64(0))) as (threes, ones):
                with threes:
                    by_threes = _counts_by_threes(b, pixel, steps, n_steps, beside, parity, w)
                    in_threes = b.block
                with ones:
                    by_ones = _counts(b, pixel, steps, n_steps, w)
                    in_ones = b.block
            counts = []
            for one, other in zip(by_threes, by_ones, strict=True):
                counts.append(b.phi(INTS))
                counts[-1].add_incoming(one, in_threes)
                counts[-1].add_incoming(other, in_ones)
            _finish(b, whole, counts, *others)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 19), codegen

    return tile


def _counts(b: Any, pixel: list[Any], steps: Any, n_steps: Any, w: Any) -> list[Any]:
    """Word by word; see :func:`_tile`."""

    def add(at: Any, w: Any, counts: list[Any]) -> list[Any]:
        for half in range(HALVES):
            filters = b.load(b.gep(w, [I64(half)]), align=8)
            words = [_word(b, one, at, half) for one in pixel]
            counts = [
                b.add(count, _popcount(b, b.xor(word, filters)))
                for count, word in zip(counts, words, strict=True)
            ]
        return counts

    zeros = [ir.Constant(COUNTS, [0] * ROW)] * len(pixel)
    return _narrow(b, _over_steps(b, steps, n_steps, w, HALVES, zeros, add))


def _counts_by_threes(
    b: Any, pixel: list[Any], steps: Any, n_steps: Any, beside: Any, parity: Any, w: Any
) -> list[Any]:
    """Three words at a time; see :func:`_tile`."""

    def add(at: Any, w: Any, counts: list[Any]) -> list[Any]:
        second, odd = _opaque(b, b.add(at, beside)), _opaque(b, b.add(at, parity))
        at, counts = _opaque(b, at), list(counts)
        for half in range(HALVES):
            w0, w1, w_odd = (b.load(b.gep(w, [I64(3 * half + i)]), align=8) for i in range(3))
            for p, one in enumerate(pixel):
                x0 = b.xor(_word(b, one, at, half), w0)
                x1 = b.xor(_word(b, one, second, half), w1)
                ones = b.xor(_word(b, one, odd, half), w_odd)
                twos = _carry(b, x0, x1, ones)
                counts[2 * p] = b.add(counts[2 * p], _popcount(b, ones))
                counts[2 * p + 1] = b.add(counts[2 * p + 1], _popcount(b, twos))
        return counts

    zeros = [ir.Constant(COUNTS, [0] * ROW)] * (2 * len(pixel))
    both = _narrow(b, _over_steps(b, steps, n_steps, w, 3 * HALVES, zeros, add))
    return [
        b.add(ones, b.shl(twos, ir.Constant(INTS, [1] * ROW)))
        for ones, twos in zip(both[::2], both[1::2], strict=True)
    ]


def _over_steps(
    b: Any,
    steps: Any,
    n_steps: Any,
    w: Any,
    w_step: int,
    counts: list[Any],
    add: Callable[[Any, Any, list[Any]], list[Any]],
) -> list[Any]:
    """``counts`` after ``add(steps[i], w, counts)`` for all steps, w going on by ``w_step`` vectors."""
    before = b.block
    loop, done = b.append_basic_block('step'), b.append_basic_block('done')
    b.branch(loop)

    b.position_at_end(loop)
    i, here = b.phi(I64), b.phi(w.type)
    so_far = [b.phi(COUNTS) for _ in counts]
    after = add(b.load(b.gep(steps, [i])), here, so_far)
    following = b.add(i, I64(1))
    for phi, first, later in (
        (i, I64(0), following),
        (here, w, b.gep(here, [I64(w_step)])),
        *zip(so_far, counts, after, strict=True),
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    b.cbranch(b.icmp_signed('<', following, n_steps), loop, done)

    b.position_at_end(done)
    return after


def _word(b: Any, row: Any, at: Any, half: int) -> Any:
    """Bits of a word of a row, the same in each lane."""
    bits = b.bitcast(b.gep(row, [at]), BITS.as_pointer())
    return splat(b, b.load(b.gep(bits, [I64(half)])), COUNTS)


def _opaque(b: Any, value: Any) -> Any:
    """``value``, of which LLVM does not know what it is.

    For it would rather have an address of its own for each word of each pixel than add an index to that of the pixel,
    and there are not so many registers.
    """
    return b.asm(ir.FunctionType(I64, [I64]), '', '=r,0', [value], False)


def _popcount(b: Any, bits: Any) -> Any:
    return b.call(function(b, f'llvm.ctpop.v{ROW}i{LANE}', COUNTS, COUNTS), [bits])


def _carry(b: Any, x0: Any, x1: Any, ones: Any) -> Any:
    """Where two or three of x0, x1 and x2 are 1, ``ones`` being the xor of the three.

    ``(x0 & x1) | ((x0 ^ x1) & ~ones)``, which AVX-512 has as one instruction.
    """
    if LANE == 32:
        kind = (COUNTS, COUNTS, COUNTS, COUNTS, I32)
        by_table = function(b, 'llvm.x86.avx512.pternlog.d.512', *kind)
        table = sum(1 << i for i in range(8) if i in (0b010, 0b100, 0b110, 0b111))
        return b.call(by_table, [x0, x1, ones, I32(table)])
    return b.or_(b.and_(x0, x1), b.and_(b.xor(x0, x1), b.not_(ones)))


def _narrow(b: Any, counts: list[Any]) -> list[Any]:
    return counts if LANE == 32 else [b.trunc(count, INTS) for count in counts]


def _finish(
    b: Any,
    whole: bool,
    counts: list[Any],
    base: Any,
    kinds: Any,
    table: Any,
    width: Any,
    shift: Any,
    activated: Any,
    shortcut: Any,
    out: Any,
    stride: Any,
    signs: Any,
    places: Any,
    channels: Any,
) -> None:
    """What :func:`_tile` says of outputs."""
    kinds, places = (b.inttoptr(one, I64.as_pointer()) for one in (kinds, places))
    fuse = function(b, f'llvm.fmuladd.v{ROW}f32', FLOATS, FLOATS, FLOATS, FLOATS)
    row_bytes = b.mul(width, I64(4))
    row = Row(b, None if whole else channels)
    m1, a1, m2, a2, p, slope, c, low, high = (
        load_row(b, b.add(table, b.mul(row_bytes, I64(i)))) for i in range(9)
    )
    pixels = range(len(counts))
    outputs = []
    for i in pixels:
        kind = b.load(b.gep(kinds, [I64(i)]))
        most = load_row(b, b.add(base, b.mul(kind, row_bytes)), INTS)
        doubled = b.shl(counts[i], ir.Constant(INTS, [1] * ROW))
        sums = b.sitofp(b.sub(most, doubled), FLOATS)
        outputs.append(b.call(fuse, [b.fadd(b.fmul(sums, m1), a1), m2, a2]))
    with either(b, b.icmp_unsigned('!=', shortcut, I64(0)), outputs) as joined:
        for i in pixels:
            joined[i] = b.fadd(outputs[i], row.load(b.add(shortcut, b.mul(stride, I64(i)))))
    outputs = joined
    with either(b, b.icmp_unsigned('!=', activated, I64(0)), outputs) as joined:
        for i in pixels:
            y = b.fadd(outputs[i], p)
            y = b.select(
                b.fcmp_ordered('>', y, ir.Constant(FLOATS, [0.0] * ROW)), y, b.fmul(y, slope)
            )
            y = b.fadd(y, c)
            y = b.select(b.fcmp_ordered('<', y, low), low, y)
            joined[i] = b.select(b.fcmp_ordered('>', y, high), high, y)
    outputs = joined
    with b.if_then(b.icmp_unsigned('!=', out, I64(0))):
        for i in pixels:
            row.store(outputs[i], b.add(out, b.mul(stride, I64(i))))
    with b.if_then(b.icmp_unsigned('!=', signs, I64(0))):
        next_shift = load_row(b, shift)
        for i in pixels:
            place = b.add(signs, b.load(b.gep(places, [I64(i)])))
            row.store_bits(b.fadd(outputs[i], next_shift), place)


tile_of_pixels, tile_of_one = _tile(PIXELS, True), _tile(1, True)
rest_of_pixels, rest_of_one = _tile(PIXELS, False), _tile(1, False)
