"""A convolution in int8 on a CPU: compiled passes before and after the exact sums."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from surge_mm.deploy.cpu.job import EpiloguePass, QuantizationPass
from surge_mm.deploy.cpu.threads import single_thread, thread_team
from surge_mm.deploy.real_layers.exact_sums import (
    Sums,
    float64_sums,
    onednn_is_exact,
    onednn_sums,
)
from surge_mm.ops import Convolution

MOST_SHAPES = 16
"""Shapes of inputs for which a layer keeps its weight in the layout of oneDNN."""
WORTH_THREADS = 1 << 17
"""Numbers below which a pass runs on one thread."""
PARTS = 2
"""Parts of a pass per thread."""


class Pool(NamedTuple):
    """Window of a max pool, in pixels.

    Attributes:
        height (int): Rows of the window; 0 without a pool.
        width (int): Columns of the window.
        step_y (int): Vertical stride.
        step_x (int): Horizontal stride.
        top (int): Rows of padding above, and below.
        left (int): Columns of padding on the left, and on the right.
    """

    height: int = 0
    width: int = 0
    step_y: int = 1
    step_x: int = 1
    top: int = 0
    left: int = 0

    @classmethod
    def of(cls, pool: nn.MaxPool2d) -> Pool:
        """Return the window of a module."""
        return cls(*_pair(pool.kernel_size), *_pair(pool.stride), *_pair(pool.padding))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the output.

        Args:
            height (int): Height of the input.
            width (int): Width of the input.
        """
        return (
            (height + 2 * self.top - self.height) // self.step_y + 1,
            (width + 2 * self.left - self.width) // self.step_x + 1,
        )


class Int8OnCpu:
    """The tensors of a :class:`~surge_mm.deploy.real_layers.int8_conv.Int8Conv2d` as they are on the CPU.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        weight (Tensor): q_w, ``(C_out, C_in / groups, kH, kW)``, int8.
        numbers (Tensor): ``inverse`` and ``zero``, float32.
        table (Tensor): ``(9, C_out)``, float32, the steps of :mod:`surge_mm.deploy.epilogue`.
        activates (bool): Whether the table has steps after a1.
        pool (nn.MaxPool2d, optional): The max pool behind it. Defaults to None.
    """

    def __init__(
        self,
        convolution: Convolution,
        weight: Tensor,
        numbers: Tensor,
        table: Tensor,
        activates: bool,
        pool: nn.MaxPool2d | None = None,
    ) -> None:
        self.convolution, self.weight = convolution, weight
        self.numbers, self.table, self.activates = numbers.contiguous(), table, activates
        self.pool = Pool() if pool is None else Pool.of(pool)
        self._sums_of = lru_cache(MOST_SHAPES)(self._new_sums)

    def run(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, by the compiled passes.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, float32, not empty.
        """
        from surge_mm.deploy.cpu.byte_kernels import finish_parts

        sums = self.sums(self.quantize(x)).contiguous(memory_format=torch.channels_last)
        images, channels, height, width = sums.shape
        out, rows = sums, height
        if self.pool.height:
            rows, columns = self.pool.output_size(height, width)
            out = _empty(images, channels, rows, columns, torch.float32)
        job = EpiloguePass(
            next_part=0,
            parts=0,
            images=images,
            height=height,
            width=width,
            channels=channels,
            sums=sums.data_ptr(),
            out=out.data_ptr(),
            table=self.table.data_ptr(),
            activates=self.activates,
            pool_height=self.pool.height,
            pool_width=self.pool.width,
            pool_step_y=self.pool.step_y,
            pool_step_x=self.pool.step_x,
            pool_top=self.pool.top,
            pool_left=self.pool.left,
        )
        _run(finish_parts.address, job, images * rows, sums.numel())
        return out

    def sums(self, q: Tensor) -> Tensor:
        """Return the exact sums, rounded to float32: ``(N, C_out, H', W')``.

        Args:
            q (Tensor): Bytes with their border, not empty.
        """
        return self._sums_of(tuple(q.shape))(q)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the bytes of an input with its border, by the compiled pass.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, float32.

        Returns:
            Tensor: uint8, ``(N, C_in, padded height, padded width)``, channels_last.
        """
        from surge_mm.deploy.cpu.byte_kernels import quantize_parts

        images, channels, height, width = x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        left, right, top, bottom = self.convolution.padding
        rows, columns = top + height + bottom, left + width + right
        q = _empty(images, channels, rows, columns, torch.uint8)
        job = QuantizationPass(
            next_part=0,
            parts=0,
            rows=images * rows,
            x=x.data_ptr(),
            out=q.data_ptr(),
            numbers=self.numbers.data_ptr(),
            height=height,
            row=width * channels,
            top=top,
            bottom=bottom,
            left=left * channels,
            right=right * channels,
        )
        _run(quantize_parts.address, job, images * rows, q.numel())
        return q

    def _new_sums(self, shape: tuple[int, ...]) -> Sums:
        if onednn_is_exact():
            return onednn_sums(self.weight, self.convolution, shape)
        return float64_sums(self.weight, self.convolution)


def _empty(images: int, channels: int, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """Return a tensor in the memory format channels_last."""
    strides = (rows * columns * channels, 1, columns * channels, channels)
    return torch.empty_strided((images, channels, rows, columns), strides, dtype=dtype)


def _run(function: int, job: Any, rows: int, numbers: int) -> None:
    """Run a pass over so many rows and numbers on as many threads as are worth it."""
    threads = 1 if numbers < WORTH_THREADS else torch.get_num_threads()
    parts = min(rows, PARTS * threads) if threads > 1 else 1
    team = single_thread(function) if threads == 1 else thread_team(function)
    team.run((ctypes.c_int64 * len(job))(*job._replace(parts=parts)), threads)
