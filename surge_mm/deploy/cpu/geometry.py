"""Positions of a convolution in bit-packed images: window offsets in words, and windows that reach over the border."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from surge_mm.deploy.cpu.bitpacking import WORD, WORD_BYTES
from surge_mm.ops import Convolution
from surge_mm.utils.errors import UsageError

with suppress(ImportError):  # Numba requires it, and without Numba no geometry is computed
    import numpy as np


def words_per_pixel(channels: int, groups: int) -> int:
    """Return the number of 32-bit words of a pixel; each group of channels begins a new word.

    Args:
        channels (int): Channels of the image, C_in.
        groups (int): Groups of the convolution.
    """
    return groups * -(-(channels // groups) // WORD)


def check_input(
    convolution: Convolution, weight_shape: torch.Size, input_shape: tuple[int, ...]
) -> None:
    """Check that an input fits a convolution.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        weight_shape (torch.Size): ``(C_out, C_in / groups, kH, kW)``.
        input_shape (tuple[int, ...]): Shape of the input.

    Raises:
        UsageError: if it is not ``(N, C_in, H, W)``, or the kernel is larger than the padded input.
    """
    expected = weight_shape[1] * convolution.groups
    kernel_size = (weight_shape[2], weight_shape[3])
    if len(input_shape) != 4:
        raise UsageError(
            f'the input has {len(input_shape)} axes, and must have 4: (N, {expected}, height, width)'
        )
    _, channels, height, width = input_shape
    if channels != expected or min(convolution.output_size(height, width, kernel_size)) < 1:
        raise UsageError(
            f'the input of channels, height and width {(channels, height, width)} must have {expected} channels and at '
            f'least the size of the kernel {kernel_size}'
        )


@dataclass(frozen=True)
class Geometry:
    """A convolution on images of one size. P is the number of output pixels, H and W are those of the input.

    Attributes:
        offsets (Tensor): ``(P,)``, int64. The word of the padded image at which the window of an output pixel begins.
        steps (Tensor): ``(groups, S)``, int64. Offsets of the words of a window from its first word.
        borders (Tensor): ``(P,)``, int64. How the window of an output pixel meets the border, as a row of ``inside``.
        inside (Tensor): ``(B, kH * kW)``, bool. Whether a tap of the window is within the image, for each of B ways to
            meet the border.
        places (Tensor): ``(H * W,)``, int64. The byte of the padded image at which an input pixel begins.
        image_words (int): Words of a padded image.
    """

    offsets: Tensor
    steps: Tensor
    borders: Tensor
    inside: Tensor
    places: Tensor
    image_words: int


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # kept, and read in either mode
def geometry(
    convolution: Convolution, channels: int, kernel_size: tuple[int, int], size: tuple[int, int]
) -> Geometry:
    """Return the geometry of a convolution on images of one size.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        channels (int): Channels of the input, C_in.
        kernel_size (tuple[int, int]): Height and width of the kernel, kH and kW.
        size (tuple[int, int]): Height and width of the input without padding, in pixels.
    """
    left, _, top, _ = convolution.padding
    (height, width), (kernel_h, kernel_w) = size, kernel_size
    (stride_h, stride_w), (dilation_h, dilation_w) = convolution.stride, convolution.dilation
    padded_height, padded_width = convolution.padded_size(height, width)
    rows, columns = convolution.output_size(height, width, kernel_size)
    words = words_per_pixel(channels, convolution.groups)

    y, x = np.arange(rows) * stride_h, np.arange(columns) * stride_w
    offsets = (y[:, None] * padded_width + x).reshape(-1) * words
    tap_y, tap_x = np.arange(kernel_h) * dilation_h, np.arange(kernel_w) * dilation_w
    group_words = np.arange(words).reshape(convolution.groups, 1, -1)
    taps = (tap_y[:, None] * padded_width + tap_x).reshape(-1, 1) * words
    steps = (taps + group_words).reshape(convolution.groups, -1)

    row_kinds, row_of = _border(y[:, None] + tap_y - top, height)
    column_kinds, column_of = _border(x[:, None] + tap_x - left, width)
    inside = row_kinds[:, None, :, None] & column_kinds[None, :, None, :]
    borders = (row_of[:, None] * len(column_kinds) + column_of).reshape(-1)
    places = ((np.arange(height) + top)[:, None] * padded_width + np.arange(width) + left) * words
    return Geometry(
        _integers(offsets),
        _integers(steps),
        _integers(borders),
        torch.from_numpy(inside.reshape(-1, kernel_h * kernel_w)),
        _integers(places.reshape(-1) * WORD_BYTES),
        padded_height * padded_width * words,
    )


def _integers(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _border(positions: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows of ``inside`` along one axis, and the row of each window."""
    inside = (positions >= 0) & (positions < size)
    kinds, kind_of = np.unique(inside, axis=0, return_inverse=True)
    return kinds, kind_of.reshape(-1)
