"""A convolution in int8 on a CPU: compiled passes before and after the exact sums."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

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


class Int8OnCpu:
    """The tensors of a :class:`~surge_mm.deploy.real_layers.int8_conv.Int8Conv2d` as they are on the CPU.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        weight (Tensor): q_w, ``(C_out, C_in / groups, kH, kW)``, int8.
        numbers (Tensor): ``inverse`` and ``zero``, float32.
        table (Tensor): ``(9, C_out)``, float32, the steps of :mod:`surge_mm.deploy.epilogue`.
        activates (bool): Whether the table has steps after a1.
    """

    def __init__(
        self,
        convolution: Convolution,
        weight: Tensor,
        numbers: Tensor,
        table: Tensor,
        activates: bool,
    ) -> None:
        self.convolution, self.weight = convolution, weight
        self.numbers, self.table, self.activates = numbers.contiguous(), table, activates
        self._sums_of = lru_cache(MOST_SHAPES)(self._new_sums)

    def run(self, x: Tensor) -> Tensor:
        """Return the output of the convolution, by the compiled passes.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, float32, not empty.
        """
        from surge_mm.deploy.cpu.byte_kernels import finish_parts

        sums = self.sums(self.quantize(x)).contiguous(memory_format=torch.channels_last)
        channels = len(self.weight)
        job = EpiloguePass(
            next_part=0,
            parts=0,
            rows=sums.numel() // channels,
            sums=sums.data_ptr(),
            table=self.table.data_ptr(),
            channels=channels,
            activates=self.activates,
        )
        _run(finish_parts.address, job, sums.numel())
        return sums

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
        q = torch.empty_strided(
            (images, channels, rows, columns),
            (rows * columns * channels, 1, columns * channels, channels),
            dtype=torch.uint8,
        )
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
        _run(quantize_parts.address, job, q.numel())
        return q

    def _new_sums(self, shape: tuple[int, ...]) -> Sums:
        if onednn_is_exact():
            return onednn_sums(self.weight, self.convolution, shape)
        return float64_sums(self.weight, self.convolution)


def _run(function: int, job: Any, numbers: int) -> None:
    """Run a pass over so many numbers on as many threads as are worth it."""
    threads = 1 if numbers < WORTH_THREADS else torch.get_num_threads()
    parts = min(job.rows, PARTS * threads) if threads > 1 else 1
    team = single_thread(function) if threads == 1 else thread_team(function)
    team.run((ctypes.c_int64 * len(job))(*job._replace(parts=parts)), threads)
