"""A convolution in int8 on a CPU: compiled passes before and after the exact sums."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from surge_mm.deploy.cpu.geometry import check_input
from surge_mm.deploy.cpu.job import EpiloguePass, QuantizationPass
from surge_mm.deploy.cpu.threads import single_thread, thread_team
from surge_mm.deploy.real_layers.exact_sums import (
    Sums,
    float64_sums,
    onednn_is_exact,
    onednn_sums,
)
from surge_mm.ops import Convolution

MOST_SHAPES = 32
"""Shapes of inputs for which a layer keeps its weight in the layout of oneDNN, and its plan."""
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
        self._plan = lru_cache(MOST_SHAPES)(partial(_Plan, self))

    def run(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, by the compiled passes.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, float32, not empty.
        """
        plan = self._plan(x.shape, torch.get_num_threads())
        x = x.contiguous(memory_format=torch.channels_last)
        q = torch.empty_strided(*plan.bytes, dtype=torch.uint8)
        plan.quantize(x.data_ptr(), q.data_ptr())
        sums = plan.sums(q).contiguous(memory_format=torch.channels_last)
        out = torch.empty_strided(*plan.out, dtype=torch.float32) if plan.out else sums
        plan.finish(sums.data_ptr(), out.data_ptr())
        return out

    def sums(self, q: Tensor) -> Tensor:
        """Return the exact sums, rounded to float32: ``(N, C_out, H', W')``.

        Args:
            q (Tensor): Bytes with their border, not empty.
        """
        return self._sums_of(tuple(q.shape[1:]))(q)

    def _new_sums(self, shape: tuple[int, ...]) -> Sums:
        if onednn_is_exact():  # its layout for one image is that for any number, such as of regions
            return onednn_sums(self.weight, self.convolution, (1, *shape))
        return float64_sums(self.weight, self.convolution)


class _Plan:
    """What a layer needs for inputs of one shape.

    Args:
        layer (Int8OnCpu): The layer.
        shape (torch.Size): ``(N, C_in, H, W)``.
        threads (int): Threads of PyTorch.
    """

    def __init__(self, layer: Int8OnCpu, shape: torch.Size, threads: int) -> None:
        from surge_mm.deploy.cpu.byte_kernels import finish_parts, quantize_parts

        images, channels, height, width = shape
        convolution, pool, filters = layer.convolution, layer.pool, len(layer.weight)
        check_input(convolution, layer.weight.shape, channels, (height, width))
        left, right, top, bottom = convolution.padding
        rows, columns = convolution.padded_size(height, width)
        kernel_size = (layer.weight.shape[2], layer.weight.shape[3])
        out_height, out_width = convolution.output_size(height, width, kernel_size)
        self.bytes = _layout(images, channels, rows, columns)
        self.sums = layer._sums_of(self.bytes[0][1:])
        self.out = None
        if pool.height:
            self.out = _layout(images, filters, *pool.output_size(out_height, out_width))
        quantization = QuantizationPass(
            *(0, 0, 0, 0),
            rows=images * rows,
            numbers=layer.numbers.data_ptr(),
            height=height,
            row=width * channels,
            top=top,
            bottom=bottom,
            left=left * channels,
            right=right * channels,
        )
        epilogue = EpiloguePass(
            *(0, 0, 0, 0),
            images=images,
            height=out_height,
            width=out_width,
            channels=filters,
            table=layer.table.data_ptr(),
            activates=layer.activates,
            pool_height=pool.height,
            pool_width=pool.width,
            pool_step_y=pool.step_y,
            pool_step_x=pool.step_x,
            pool_top=pool.top,
            pool_left=pool.left,
        )
        numbers = images * rows * columns * channels
        self.quantize = _start(
            quantize_parts.address, quantization, images * rows, numbers, threads
        )
        rows = images * (self.out[0][2] if self.out else out_height)
        numbers = images * out_height * out_width * filters
        self.finish = _start(finish_parts.address, epilogue, rows, numbers, threads)


def _layout(
    images: int, channels: int, rows: int, columns: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and the strides of a tensor in the memory format channels_last."""
    strides = (rows * columns * channels, 1, columns * channels, channels)
    return (images, channels, rows, columns), strides


def _start(
    function: int, job: tuple[int, ...], rows: int, numbers: int, threads: int
) -> Callable[[int, int], None]:
    """Return a function that runs a pass from one address to another.

    Args:
        function (int): Address of the C function.
        job (tuple[int, ...]): Fields of the pass. Those of the parts and of the two addresses are set here.
        rows (int): Rows that are shared out.
        numbers (int): Numbers of the pass, which decide whether several threads are worth it.
        threads (int): Number of threads then.
    """
    threads = 1 if numbers < WORTH_THREADS else threads
    team = single_thread(function) if threads == 1 else thread_team(function)
    parts = min(rows, PARTS * threads) if threads > 1 else 1
    array, others, run = ctypes.c_int64 * len(job), job[4:], team.run
    return lambda source, target: run(array(0, parts, source, target, *others), threads)
