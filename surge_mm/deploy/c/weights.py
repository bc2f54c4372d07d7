"""Weights in the order in which the C code reads them, and the memory that a layer works in.

Filters are arranged in blocks of 16, zeros where a block has fewer: what the kernels read of 16 filters at one step is
consecutive. The steps of a window are in the order (row, column, channel).
"""

from __future__ import annotations

import numpy as np

from surge_mm.deploy.c.graph import LAYERS, Node, Shape
from surge_mm.ops import Convolution

ROW = 16
"""Filters of a block; ``SURGE_ROW`` in C."""
BLOCKS = 4
"""Most blocks that are computed together; ``SURGE_BLOCKS`` in C."""
PIXELS = 8
"""Most output pixels of a tile; ``SURGE_PIXELS`` in C."""
BAND, PLAIN_BAND = 262144, 8192
"""Bytes of the input rows that are computed at a time, unless one output row needs more; ``SURGE_BAND`` in C."""
MOST_BAND = 1048576
"""The same for a layer whose weights are larger than that, with vectors; ``SURGE_MOST_BAND`` in C."""


LINES, PLAIN_LINES = 32768, 8192
"""Bytes of the rows of the image that are prepared at a time, unless one output row needs more."""


def binary_weights(weight: np.ndarray, convolution: Convolution) -> np.ndarray:
    """Return the signs of weights as bits, 1 for -1.

    Args:
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``, +1 and -1.
        convolution (Convolution): The convolution.

    Returns:
        np.ndarray: uint32. As bytes, ``(groups, blocks, kH * kW * bytes of a tap, 16)``: 8 channels of each of 16
        filters. The bytes of a tap are those of whole words of 32 channels.
    """
    rows = np.signbit(weight).transpose(0, 2, 3, 1)
    rows = np.pad(rows, [(0, 0)] * 3 + [(0, -rows.shape[3] % 32)])
    steps = np.packbits(rows, axis=-1, bitorder='little').reshape(len(weight), -1)
    return _in_blocks(steps, convolution.groups).reshape(-1).view(np.uint32)


def int8_weights(weight: np.ndarray, convolution: Convolution) -> np.ndarray:
    """Return weights of bytes, four for each step.

    Args:
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``, int8.
        convolution (Convolution): The convolution.

    Returns:
        np.ndarray: int8, ``(groups, blocks, steps, 16, 4)``, or ``(kH * kW, C)`` for a filter per channel. Each run of
        consecutive bytes of a window is filled with zeros to whole steps.
    """
    if _is_depthwise(weight, convolution):
        return np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    runs = _runs(weight, convolution)
    runs = np.pad(runs, [(0, 0), (0, 0), (0, -runs.shape[2] % 4)])
    return _in_blocks(runs.reshape(len(weight), -1, 4), convolution.groups)


def float_weights(weight: np.ndarray, convolution: Convolution) -> np.ndarray:
    """Return weights of float32.

    Args:
        weight (np.ndarray): ``(C_out, C_in / groups, kH, kW)``, float32.
        convolution (Convolution): The convolution.

    Returns:
        np.ndarray: float32, ``(groups, blocks, kH * kW * C_in / groups, 16)``, or ``(kH * kW, C)`` for a filter per
        channel.
    """
    if _is_depthwise(weight, convolution):
        return np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    steps = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return _in_blocks(steps, convolution.groups)


def _is_depthwise(weight: np.ndarray, convolution: Convolution) -> bool:
    return convolution.groups > 1 and convolution.groups == len(weight) and weight.shape[1] == 1


def _runs(weight: np.ndarray, convolution: Convolution) -> np.ndarray:
    """Return ``(C_out, runs, numbers of a run)``: rows of a window if their pixels are consecutive, else pixels."""
    taps = weight.transpose(0, 2, 3, 1)
    filters, rows, columns, channels = taps.shape
    if convolution.groups == 1 and convolution.dilation[1] == 1:
        return taps.reshape(filters, rows, columns * channels)
    return taps.reshape(filters, rows * columns, channels)


def _in_blocks(steps: np.ndarray, groups: int) -> np.ndarray:
    """Return ``(groups, blocks, steps, 16, ...)`` for ``(C_out, steps, ...)``."""
    filters = steps.reshape(groups, -1, *steps.shape[1:])
    more = -filters.shape[1] % ROW
    filters = np.pad(filters, [(0, 0), (0, more)] + [(0, 0)] * (filters.ndim - 2))
    blocks = filters.reshape(groups, -1, ROW, *filters.shape[2:])
    return np.ascontiguousarray(np.moveaxis(blocks, 2, 3))


def workspace_bytes(node: Node, shape: Shape, vectors: bool = True) -> int:
    """Return the bytes of the workspace of an operation; 0 if it needs none.

    Args:
        node (Node): The operation.
        shape (Shape): Shape of its input.
        vectors (bool): See :func:`workspace`. Defaults to True.
    """
    if node.kind not in LAYERS:
        return 0
    options = node.options
    size = (shape.height, shape.width)
    return workspace(node.kind, options['weight'].shape, options['convolution'], size, vectors)


def rows_of_image(node: Node, numbers: int, vectors: bool) -> tuple[int, int]:
    """Return how many output rows a convolution of the image computes at a time, and from how many input rows at most.

    Args:
        node (Node): The convolution.
        numbers (int): Width of the image times its channels.
        vectors (bool): Whether the C code has kernels by vectors.
    """
    convolution, kernel = node.options['convolution'], node.options['weight'].shape[2]
    extent, stride = (kernel - 1) * convolution.dilation[0] + 1, convolution.stride[0]
    rows = (LINES if vectors else PLAIN_LINES) // (4 * numbers)
    band = max(1, (rows - extent) // stride + 1)
    return band, (band - 1) * stride + extent


def workspace(
    kind: str,
    weight_shape: tuple[int, ...],
    convolution: Convolution,
    size: tuple[int, int],
    vectors: bool = True,
) -> int:
    """Return the bytes that a layer works in, as ``surge_KIND_workspace`` in C. A smaller input never needs more.

    Args:
        kind (str): ``'binary'``, ``'int8'`` or ``'float'``.
        weight_shape (tuple[int, ...]): ``(C_out, C_in / groups, kH, kW)``.
        convolution (Convolution): The convolution.
        size (tuple[int, int]): Height and width of the input.
        vectors (bool): Whether the C code has kernels by vectors. Defaults to True.
    """
    filters, channels, kernel_h, kernel_w = weight_shape
    groups, taps = convolution.groups, kernel_h * kernel_w
    of_tap = 4 * -(-channels // 32)
    pixel = {'binary': groups * of_tap, 'int8': groups * channels, 'float': 4 * groups * channels}[
        kind
    ]
    height, width = convolution.padded_size(*size)
    extent = (kernel_h - 1) * convolution.dilation[0] + 1
    large = taps * pixel // groups * filters > MOST_BAND
    band = PLAIN_BAND if not vectors else MOST_BAND if large else BAND
    pixels = min(height * width, max(band // pixel, extent * width))
    joined = groups == 1 and convolution.dilation[1] == 1
    runs = (kernel_h, kernel_w * channels) if joined else (taps, channels)
    steps = {'binary': taps * of_tap, 'int8': runs[0] * -(-runs[1] // 4), 'float': taps * channels}[
        kind
    ]
    parts = [4 * steps, 4 * (pixels + PIXELS)]
    if kind != 'float' or any(convolution.padding):
        parts.append(pixels * pixel + 64)
    if kind == 'binary':
        rows, columns = convolution.output_size(*size, (kernel_h, kernel_w))
        kinds = min(2 * kernel_h + 1, rows) * min(2 * kernel_w + 1, columns)
        parts += [4 * (pixels + PIXELS), 16 * kinds, *(4 * ROW * BLOCKS * n for n in (kinds, taps))]
        parts += [2 * pixels * pixel + 64, 8 * ROW * steps] if vectors else []
    return sum(-(-part // 64) * 64 for part in parts)
