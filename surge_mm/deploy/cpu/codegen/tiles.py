"""A tile of a convolution, from words to outputs in registers, written in LLVM IR.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from surge_mm.deploy.cpu.codegen.byte_counts import count_by_bytes
from surge_mm.deploy.cpu.codegen.epilogue import outputs_of_counts
from surge_mm.deploy.cpu.codegen.popcounts import count_by_words
from surge_mm.deploy.cpu.codegen.vectors import (
    BYTE_COUNTS,
    I32,
    I64,
    INTS,
    PIXELS,
    ROW,
    Row,
    load_row,
)


def _tile(pixels: int, whole: bool) -> Any:
    """Return the intrinsic for a tile of so many pixels and 16 filters, or fewer than 16 if it is not ``whole``.

    First the counts, over the ``n_steps`` words of a window::

        count[p, f] = sum popcount(x[i, p] ^ w[i, f]);  x[i, p] = words[offsets[p] + steps[i]]

    Then outputs y, by :func:`surge_mm.deploy.cpu.codegen.epilogue.outputs_of_counts` with the rows of ``table``, and
    the sign bits of ``y + shift``. Shortcut, output and signs are left out where their address is 0. Rows of ``base``
    and ``table`` are ``width`` numbers apart, those of ``shortcut`` and ``out`` are ``stride`` bytes apart. Pixel i
    uses row ``borders[i]`` of ``base``, and its signs begin at ``signs + places[i]``. ``channels`` is the number of
    filters of a tile that is not whole.

    If ``thresholds`` is not 0, the sign bits alone are written: ``count > limit``, or the opposite where its first row
    is -1. The rows after it are the limits for each row of ``base``.
    """

    @intrinsic
    def tile(
        context,
        offsets,
        borders,
        places,
        shortcut,
        out,
        words,
        steps,
        n_steps,
        w,
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
            offsets, *at, words, steps, n_steps, w = arguments[:9]
            words = b.inttoptr(words, I32.as_pointer())
            offsets, steps = (b.inttoptr(address, I64.as_pointer()) for address in (offsets, steps))
            pixel = [b.gep(words, [b.load(b.gep(offsets, [I64(p)]))]) for p in range(pixels)]
            w = b.inttoptr(w, INTS.as_pointer())
            count = count_by_bytes if BYTE_COUNTS else count_by_words
            counts = count(b, pixel, steps, n_steps, w)
            _finish(b, whole, counts, *at, *arguments[9:])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 18), codegen

    return tile


def _finish(
    b: Any,
    whole: bool,
    counts: list[Any],
    borders: Any,
    places: Any,
    shortcut: Any,
    out: Any,
    base: Any,
    table: Any,
    width: Any,
    shift: Any,
    activated: Any,
    stride: Any,
    signs: Any,
    thresholds: Any,
    channels: Any,
) -> None:
    """Compute outputs and signs from counts; see :func:`_tile`."""
    borders, places = (b.inttoptr(address, I64.as_pointer()) for address in (borders, places))
    row = Row(b, None if whole else channels)
    rows = [b.load(b.gep(borders, [I64(i)])) for i in range(len(counts))]
    row_bytes = b.mul(width, I64(4))

    def place(i: int) -> Any:
        return b.add(signs, b.load(b.gep(places, [I64(i)])))

    with b.if_else(b.icmp_unsigned('!=', thresholds, I64(0))) as (by_thresholds, by_steps):
        with by_thresholds:
            zeros = ir.Constant(INTS, [0] * ROW)
            rises = b.icmp_signed('!=', load_row(b, thresholds, INTS), zeros)
            for i, count in enumerate(counts):
                limit = b.add(thresholds, b.mul(b.add(rows[i], I64(1)), row_bytes))
                above = b.icmp_signed('>', count, load_row(b, limit, INTS))
                row.store_mask(b.xor(above, rises), place(i))
        with by_steps:
            numbers = [load_row(b, b.add(table, b.mul(row_bytes, I64(i)))) for i in range(9)]
            outputs = outputs_of_counts(
                b,
                row,
                numbers,
                counts,
                [b.add(base, b.mul(border, row_bytes)) for border in rows],
                [b.add(shortcut, b.mul(stride, I64(i))) for i in range(len(counts))],
                b.icmp_unsigned('!=', shortcut, I64(0)),
                b.icmp_unsigned('!=', activated, I64(0)),
            )
            with b.if_then(b.icmp_unsigned('!=', out, I64(0))):
                for i, y in enumerate(outputs):
                    row.store(y, b.add(out, b.mul(stride, I64(i))))
            with b.if_then(b.icmp_unsigned('!=', signs, I64(0))):
                next_shift = load_row(b, shift)
                for i, y in enumerate(outputs):
                    row.store_bits(b.fadd(y, next_shift), place(i))


tile_of_pixels, tile_of_pixel = _tile(PIXELS, True), _tile(1, True)
partial_tile_of_pixels, partial_tile_of_pixel = _tile(PIXELS, False), _tile(1, False)
