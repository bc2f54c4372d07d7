"""Arguments of the passes in place of operators of PyTorch, in the order in which they are laid out in memory."""

from __future__ import annotations

from typing import NamedTuple

MULTIPLY, AT_LEAST, AT_MOST = range(3)
"""Actions of an :class:`ElementwisePass` on x, with a number c: ``x * c``, ``c if x < c else x`` and
``c if c < x else x``."""


class ElementwisePass(NamedTuple):
    """Actions on each number of a tensor of four dimensions, the last two of which are a row, all int64.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the rows are divided.
        x (int): Address of the input, float32.
        out (int): Address of the output, float32, contiguous. It may be that of an input with the same strides.
        rows (int): Rows, the product of the first two sizes.
        height (int): Second size.
        columns (int): Third size.
        numbers (int): Last size.
        x_outer (int): First stride of the input, in bytes.
        x_row (int): Second stride, in bytes.
        x_column (int): Third stride, in numbers.
        x_number (int): Last stride, in numbers.
        actions (int): Address of pairs of an action and the address of its number c, int64.
        n_actions (int): Number of them.
    """

    next_part: int
    parts: int
    x: int
    out: int
    rows: int
    height: int
    columns: int
    numbers: int
    x_outer: int
    x_row: int
    x_column: int
    x_number: int
    actions: int
    n_actions: int


class UpsampledSumPass(NamedTuple):
    """Sum of images and of smaller ones that are upsampled to their size, all int64.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the rows are divided.
        x (int): Address of the smaller images, ``(N, h, w, C)``, float32.
        out (int): Address of the output, ``(N, H, W, C)``, float32.
        other (int): Address of the other summand, ``(N, H, W, C)``, float32.
        rows (int): Rows of all output images, N * H.
        height (int): Rows of an output image, H.
        width (int): Columns of the output, W.
        channels (int): Channels, C.
        image_bytes (int): Bytes of a smaller image.
        places (int): Address of the byte at which each row of the output reads a smaller image, and of the offset from
            there for each of its columns, ``(H + W)``, int64.
        x_is_first (int): 1 if the smaller images are the first summand.
    """

    next_part: int
    parts: int
    x: int
    out: int
    other: int
    rows: int
    height: int
    width: int
    channels: int
    image_bytes: int
    places: int
    x_is_first: int


class AveragePass(NamedTuple):
    """Average pool without padding, all int64.

    Attributes:
        next_part (int): The part that the next thread takes, counted by the threads.
        parts (int): Parts into which the output rows are divided.
        x (int): Address of the input, ``(N, H, W, C)``, float32.
        out (int): Address of the output, ``(N, H', W', C)``, float32.
        rows (int): Rows of all output images, N * H'.
        height (int): Rows of an input image, H.
        width (int): Columns of the input, W.
        channels (int): Channels, C.
        out_height (int): Rows of an output image, H'.
        out_width (int): Columns of the output, W'.
        pool_height (int): Rows of the window, which ends where the image ends.
        pool_width (int): Columns of the window.
        pool_step_y (int): Vertical stride.
        pool_step_x (int): Horizontal stride.
    """

    next_part: int
    parts: int
    x: int
    out: int
    rows: int
    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    pool_height: int
    pool_width: int
    pool_step_y: int
    pool_step_x: int
