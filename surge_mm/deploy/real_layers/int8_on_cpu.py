"""A convolution in int8 on a CPU: by compiled tiles, or by compiled passes before and after the sums of oneDNN."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from surge_mm.deploy.cpu.geometry import check_input
from surge_mm.deploy.cpu.job import QuantizationPass
from surge_mm.deploy.cpu.passes import Finish, Pool, layout, start_pass
from surge_mm.deploy.real_layers.byte_tiles import BYTES, ByteTiles, can_tile, has_amx
from surge_mm.deploy.real_layers.exact_sums import float64_sums, onednn_is_exact
from surge_mm.ops import Convolution
from surge_mm.ops.byte_convolution import byte_convolution
from surge_mm.utils.errors import UsageError

MOST_SHAPES = 32
"""Shapes of inputs for which a layer keeps its weight in the layout of oneDNN, and its plan."""

PRODUCTS = 48
"""Products of a tile that take as long as a number of a pass."""

MOST_PRODUCTS = 1 << 24
"""Products of a convolution beyond which oneDNN's operator is used, not tiles, where the CPU has AMX. Its call takes
about 50 microseconds."""


class Int8OnCpu:
    """The tensors of a :class:`~surge_mm.deploy.real_layers.int8_conv.Int8Conv2d` as they are on the CPU.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        weight (Tensor): q_w, ``(C_out, C_in / groups, kH, kW)``, int8.
        numbers (Tensor): ``inverse`` and ``zero``, float32.
        table (Tensor): ``(9, C_out)``, float32, the steps of :mod:`surge_mm.deploy.packing.epilogue`.
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
        self.pool = Pool.of(pool)
        self.tiles = ByteTiles(convolution, weight) if can_tile(convolution) else None
        self._sums_of = lru_cache(MOST_SHAPES)(self._new_sums)
        self._plan = lru_cache(MOST_SHAPES)(partial(_Plan, self))

    def run(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, by the compiled passes.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, float32, not empty.
        """
        plan = self._plan(x.shape, torch.get_num_threads())
        x = x.contiguous(memory_format=torch.channels_last)
        q = torch.empty(plan.n_bytes, dtype=torch.uint8)
        plan.quantize(x.data_ptr(), q.data_ptr())
        if plan.convolve:
            out = torch.empty_strided(*plan.finish.layout, dtype=torch.float32)
            plan.convolve(q.data_ptr(), out.data_ptr())
            return out
        sums = self.sums(q.as_strided(*plan.bytes))
        sums = sums.contiguous(memory_format=torch.channels_last)
        return plan.finish.run(sums, in_place=True)

    def sums(self, q: Tensor) -> Tensor:
        """Return the exact sums, rounded to float32: ``(N, C_out, H', W')``.

        Args:
            q (Tensor): Bytes with their border, not empty.
        """
        return self._sums_of(tuple(q.shape[1:]))(q)

    def _new_sums(self, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        if onednn_is_exact():  # its layout for one image is that for any number, such as of regions
            return byte_convolution(self.weight, self.convolution, (1, *shape))
        return float64_sums(self.weight, self.convolution)


class _Plan:
    """What a layer needs for inputs of one shape.

    Args:
        layer (Int8OnCpu): The layer.
        shape (torch.Size): ``(N, C_in, H, W)``.
        threads (int): Threads of PyTorch.
    """

    def __init__(self, layer: Int8OnCpu, shape: torch.Size, threads: int) -> None:
        from surge_mm.deploy.cpu.byte_kernels import quantize_parts

        convolution, filters = layer.convolution, len(layer.weight)
        check_input(convolution, layer.weight.shape, shape)
        images, channels, height, width = shape
        left, right, top, bottom = convolution.padding
        rows, columns = convolution.padded_size(height, width)
        kernel_size = (layer.weight.shape[2], layer.weight.shape[3])
        out_height, out_width = convolution.output_size(height, width, kernel_size)
        if layer.pool.height and min(layer.pool.output_size(out_height, out_width)) < 1:
            raise UsageError(
                f'the input of height and width {(height, width)} becomes {(out_height, out_width)} in the '
                'convolution, which is smaller than the window of the max pool behind it, '
                f'{(layer.pool.height, layer.pool.width)}'
            )
        self.bytes = layout(images, channels, rows, columns)
        self.n_bytes = images * channels * rows * columns + BYTES  # tiles read beyond the end
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
        self.quantize = start_pass(
            quantize_parts.address,
            quantization,
            images * rows,
            self.n_bytes,
            threads,
            layer.numbers,
        )
        sums = (images, filters, out_height, out_width)
        self.finish = Finish(layer.table, layer.activates, layer.pool, sums, threads)
        self.convolve: Callable[[int, int], None] | None = None
        products = images * out_height * out_width * layer.weight.numel()
        if layer.tiles is not None and (
            products <= MOST_PRODUCTS or not (has_amx() and onednn_is_exact())
        ):
            from surge_mm.deploy.cpu.byte_tile_kernels import (
                convolve_and_pool_parts,
                convolve_parts,
            )

            steps = (layer.table, layer.activates, layer.pool)
            job, owners = layer.tiles.job(images, (height, width), *steps)
            function = convolve_and_pool_parts if layer.pool.height else convolve_parts
            work = products // PRODUCTS
            self.convolve = start_pass(
                function.address, job, job.units, work, threads, (owners, layer.tiles)
            )
