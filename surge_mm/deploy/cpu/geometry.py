"""Where a convolution reads and writes: offsets of windows in packed words, and which windows reach over the border."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from surge_mm.deploy.cpu.bitpacking import WORD


@dataclass(frozen=True)
class Window:
    """What a convolution looks through, as :class:`surge_mm.ops.Convolution` has it.

    ``padding`` is (left, right, top, bottom); ``channels`` are those of the input.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    channels: int

    @property
    def words(self) -> int:
        """Words in a pixel: those of each group begin anew."""
        return self.groups * -(-(self.channels // self.groups) // WORD)

    def shape(self, filters: int) -> torch.Size:
        """Of a convolution's weights."""
        return torch.Size((filters, self.channels // self.groups, *self.kernel))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        left, right, top, bottom = self.padding
        return height + top + bottom, width + left + right

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what comes out; not positive where the window does not fit."""
        sizes = self.padded(height, width)
        rows, columns = (
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                sizes, self.kernel, self.stride, self.dilation, strict=True
            )
        )
        return rows, columns


@dataclass(frozen=True)
class Geometry:
    """A window upon an image of one size.

    Attributes:
        offsets: ``(P,)``, for each of the P output pixels the word where its window begins.
        steps: ``(groups, S)``, how many words behind that the words of a window lie: all of them, or those of its first
            column.
        beside: If the kernel is three wide, how many words behind a word of one column that of the next lies; else 0.
        kinds: ``(P,)``, the kind of border that a window meets, as a row of ``inside``.
        inside: ``(kinds, kH * kW)``, 1 where a pixel of the window lies in the image.
        places: ``(H * W,)``, for each input pixel the byte where its words begin.
        image_words: Words in a padded image.
    """

    offsets: Tensor
    steps: Tensor
    beside: int
    kinds: Tensor
    inside: Tensor
    places: Tensor
    image_words: int


@lru_cache(maxsize=256)
def geometry(window: Window, height: int, width: int) -> Geometry:
    """The geometry of ``window`` upon images of ``height`` and ``width``."""
    left, _, top, _ = window.padding
    padded_height, padded_width = window.padded(height, width)
    rows, columns = window.output(height, width)
    words = window.words
    (kernel_h, kernel_w), (dilation_h, dilation_w) = window.kernel, window.dilation

    y = np.arange(rows) * window.stride[0]
    x = np.arange(columns) * window.stride[1]
    offsets = (y[:, None] * padded_width + x).reshape(-1) * words
    tap_y, tap_x = np.arange(kernel_h) * dilation_h, np.arange(kernel_w) * dilation_w
    beside = dilation_w * words if kernel_w == 3 else 0
    tap_columns = tap_x[:1] if beside else tap_x
    own = np.arange(words).reshape(window.groups, 1, -1)
    taps = (tap_y[:, None] * padded_width + tap_columns).reshape(-1, 1) * words
    steps = (taps + own).reshape(window.groups, -1)

    row_kinds, row_of = _border(y[:, None] + tap_y - top, height)
    column_kinds, column_of = _border(x[:, None] + tap_x - left, width)
    inside = row_kinds[:, None, :, None] & column_kinds[None, :, None, :]
    places = ((np.arange(height) + top)[:, None] * padded_width + np.arange(width) + left) * words
    kinds = (row_of[:, None] * len(column_kinds) + column_of).reshape(-1)
    return Geometry(
        _integers(offsets),
        _integers(steps),
        beside,
        _integers(kinds),
        torch.from_numpy(inside.reshape(-1, kernel_h * kernel_w)),
        _integers(places.reshape(-1) * 8),
        padded_height * padded_width * words,
    )


def _integers(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _border(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The kinds of windows along one axis, by which of their taps lie in the image, and the kind of each."""
    inside = (positions >= 0) & (positions < size)
    kinds, kind_of = np.unique(inside, axis=0, return_inverse=True)
    return kinds, kind_of.reshape(-1)
