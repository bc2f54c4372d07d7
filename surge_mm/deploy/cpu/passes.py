"""Passes before and after real-valued convolutions, by the compiled loops."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from surge_mm.deploy.cpu.job import EpiloguePass
from surge_mm.deploy.cpu.threads import recording, single_thread, thread_team

WORTH_THREADS = 1 << 15
"""Numbers below which a pass runs on one thread, as in operators of PyTorch: such a pass takes 3 to 10 microseconds."""
PARTS = 4
"""Parts of a layer or pass per thread. With several, a thread that is held up or slow delays the others less."""


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
    def of(cls, pool: nn.MaxPool2d | None) -> Pool:
        """Return the window of a module, or that of no pool for None."""
        if pool is None:
            return cls()
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


class Finish:
    """Epilogue of a real-valued convolution, and the max pool behind it, for inputs of one shape.

    Args:
        table (Tensor): ``(9, C)``, float32, contiguous, the steps of :mod:`surge_mm.deploy.packing.epilogue`.
        activates (bool): Whether the table has steps after the shortcut.
        pool (Pool): Window of the pool.
        shape (tuple[int, int, int, int]): ``(N, C, H, W)``, the shape of the input.
        threads (int): Threads of PyTorch.
    """

    def __init__(
        self,
        table: Tensor,
        activates: bool,
        pool: Pool,
        shape: tuple[int, int, int, int],
        threads: int,
    ) -> None:
        from surge_mm.deploy.cpu.byte_kernels import finish_parts

        images, channels, height, width = shape
        rows, columns = pool.output_size(height, width) if pool.height else (height, width)
        self.pools = pool.height > 0
        self.layout = layout(images, channels, rows, columns)
        job = EpiloguePass(
            *(0, 0, 0, 0),
            images=images,
            height=height,
            width=width,
            channels=channels,
            table=table.data_ptr(),
            activates=activates,
            pool_height=pool.height,
            pool_width=pool.width,
            pool_step_y=pool.step_y,
            pool_step_x=pool.step_x,
            pool_top=pool.top,
            pool_left=pool.left,
        )
        numbers = images * channels * height * width
        self._start = start_pass(finish_parts.address, job, images * rows, numbers, threads, table)

    def run(self, x: Tensor, in_place: bool = False) -> Tensor:
        """Return the output.

        Args:
            x (Tensor): ``(N, C, H, W)``, float32, channels_last.
            in_place (bool): Whether the output may replace the input. Defaults to False.
        """
        out = x
        if self.pools or not in_place:
            out = torch.empty_strided(*self.layout, dtype=torch.float32)
        self._start(x.data_ptr(), out.data_ptr())
        return out


def layout(
    images: int, channels: int, rows: int, columns: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape and the strides of a tensor in the memory format channels_last.

    Args:
        images (int): N.
        channels (int): C.
        rows (int): H.
        columns (int): W.
    """
    strides = (rows * columns * channels, 1, columns * channels, channels)
    return (images, channels, rows, columns), strides


def shares(rows: int, numbers: int, threads: int) -> tuple[int, int]:
    """Return the number of threads of a pass, and of the parts into which its rows are divided.

    Args:
        rows (int): Rows that are shared out.
        numbers (int): Numbers of the pass, which decide whether several threads are worth it.
        threads (int): Number of threads then.
    """
    if threads == 1 or numbers < WORTH_THREADS:
        return 1, 1
    return threads, min(rows, PARTS * threads)


def start_pass(
    function: int, job: tuple[int, ...], rows: int, numbers: int, threads: int, owner: object
) -> Callable[[int, int], None]:
    """Return a function that runs a pass from one address to another.

    Args:
        function (int): Address of the C function.
        job (tuple[int, ...]): Fields of the pass. Those of the parts and of the two addresses are set here.
        rows (int): Rows that are shared out.
        numbers (int): Numbers of the pass, which decide whether several threads are worth it.
        threads (int): Number of threads then.
        owner (object): Holder of what the job has addresses of.
    """
    threads, parts = shares(rows, numbers, threads)
    team = single_thread(function) if threads == 1 else thread_team(function)
    array, run = ctypes.c_int64 * len(job), team.run
    template = bytes(array(0, parts, 0, 0, *job[4:]))

    def start(source: int, target: int) -> None:
        own = array.from_buffer_copy(template)  # faster than a new array of all fields
        own[2], own[3] = source, target
        if recording.recorder is not None:
            recording.recorder.record_call(function, own, threads, owner)
        run(own, threads)

    return start
