"""Convolution of bytes by the compiled tiles, on a CPU with AVX2 or AVX-512."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.backend import kernels
from surge_mm.deploy.cpu.job import BytePass
from surge_mm.deploy.cpu.passes import Pool
from surge_mm.ops import Convolution

ROW = 16
"""Filters of a tile."""
BYTES = 4
"""Bytes of a pixel that one instruction reads."""


def can_tile(convolution: Convolution) -> bool:
    """Return whether the tiles compute a convolution: without groups, on a CPU with AVX2."""
    compiled = kernels()
    if compiled is None or convolution.groups > 1:
        return False
    return bool(compiled.FEATURES.get('avx2'))


def has_amx() -> bool:
    """Return whether this CPU multiplies tiles of bytes, as oneDNN does and the tiles of this module do not."""
    compiled = kernels()
    return compiled is not None and bool(compiled.FEATURES.get('amx-int8'))


class ByteTiles:
    """The weight of a convolution as the tiles read it.

    Each row of a window is a run of consecutive bytes, if the convolution is not dilated; else each of its pixels is.
    Runs are read four bytes at a time. Their weights end with zeros, so that bytes after a run count for nothing.

    Args:
        convolution (Convolution): Stride, padding and dilation.
        weight (Tensor): q_w, ``(C_out, C_in, kH, kW)``, int8.
    """

    def __init__(self, convolution: Convolution, weight: Tensor) -> None:
        self.convolution = convolution
        self.filters, self.channels, self.kernel_h, self.kernel_w = weight.shape
        runs = weight.permute(0, 2, 3, 1)  # (C_out, kH, kW, C_in)
        runs = runs.flatten(2, 3) if self._joins_pixels() else runs.flatten(1, 2)
        runs = F.pad(runs, (0, -runs.shape[2] % BYTES)).unflatten(2, (-1, BYTES)).flatten(1, 2)
        runs = F.pad(runs, (0, 0, 0, 0, 0, -len(runs) % ROW))
        self.weights = runs.unflatten(0, (-1, ROW)).transpose(1, 2).contiguous()

    def _joins_pixels(self) -> bool:
        return self.convolution.dilation[1] == 1

    def job(
        self, images: int, size: tuple[int, int], table: Tensor, activates: bool, pool: Pool
    ) -> tuple[BytePass, tuple[Tensor, ...]]:
        """Return the pass for images of one size, and tensors that must outlive it.

        Args:
            images (int): Number of images, N.
            size (tuple[int, int]): Height and width of the input without padding, in pixels.
            table (Tensor): ``(9, C_out)``, float32, contiguous.
            activates (bool): Whether the table has steps after a1.
            pool (Pool): Window of the max pool behind it.
        """
        from surge_mm.deploy.cpu.codegen.byte_tiles import PIXELS, TOGETHER

        c, channels = self.convolution, self.channels
        height, width = c.padded_size(*size)
        rows, columns = c.output_size(*size, (self.kernel_h, self.kernel_w))
        y, x = torch.arange(rows) * c.stride[0], torch.arange(columns) * c.stride[1]
        offsets = ((y[:, None] * width + x) * channels).flatten()
        starts = torch.arange(self.kernel_h) * c.dilation[0] * width
        run = self.kernel_w * channels
        if not self._joins_pixels():
            starts = (starts[:, None] + torch.arange(self.kernel_w) * c.dilation[1]).flatten()
            run = channels
        steps = starts[:, None] * channels + torch.arange(0, run, BYTES)
        n = steps.shape[1]
        together = n >= TOGETHER
        in_run = (
            torch.arange(0, n, TOGETHER).clamp(max=n - TOGETHER) if together else torch.arange(n)
        )
        firsts = (torch.arange(0, steps.numel(), n)[:, None] + in_run).flatten()
        units = pool.output_size(rows, columns)[0] if pool.height else -(-rows * columns // PIXELS)
        job = BytePass(
            *(0, 0, 0, 0),
            units=images * units,
            height=rows,
            width=columns,
            channels=self.filters,
            image_bytes=height * width * channels,
            offsets=offsets.data_ptr(),
            steps=steps.data_ptr(),
            n_steps=steps.numel(),
            firsts=firsts.data_ptr(),
            n_firsts=len(firsts),
            together=together,
            filters=self.weights.data_ptr(),
            table=table.data_ptr(),
            activates=activates,
            pool_height=pool.height,
            pool_width=pool.width,
            pool_step_y=pool.step_y,
            pool_step_x=pool.step_x,
            pool_top=pool.top,
            pool_left=pool.left,
        )
        return job, (offsets, steps, firsts, table)
