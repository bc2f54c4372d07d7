"""What a packed layer hands to the compiled loops: its tensors in their layout, and the addresses of all of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.backend import kernels
from surge_mm.deploy.cpu.geometry import Geometry
from surge_mm.deploy.cpu.job import Job, LayerArguments
from surge_mm.deploy.cpu.threads import Schedule, make_schedule, number_of_threads

ENOUGH_UNITS = 28
"""Units of an image, at least, that can be shared out to threads. Small images have too few tiles for that."""
MOST_SCHEDULES = 64
"""Schedules that a plan keeps."""


def row_width(channels: int) -> int:
    """Return the number of channels rounded up to whole vectors of 16.

    Args:
        channels (int): Output channels of one group.
    """
    return -(-channels // 16) * 16


def block_filters(words: Tensor, by_threes: bool) -> Tensor:
    """Arrange the words of filters in the order in which the loops read them.

    If the loops read the three words of a row of the kernel together, their XOR takes the place of the third.

    Args:
        words (Tensor): int64, shape ``(groups, filters, kH, kW, K)`` with K words per tap.
        by_threes (bool): Whether the loops read three words together.

    Returns:
        Tensor: ``(groups, blocks, n, 16)``, zeros where a block has fewer filters: int64 with n words of a filter, or
        int32 with twice as many.
    """
    compiled = kernels()
    if by_threes:
        first, second, third = words.unbind(3)
        words = torch.stack([first, second, first ^ second ^ third], dim=-1)
    if compiled.LANE == 32:
        words = words.unsqueeze(-1).view(torch.int32)
        words = words.transpose(-1, -2) if by_threes else words
    rows = words.flatten(2)
    rows = F.pad(rows, (0, 0, 0, row_width(rows.shape[1]) - rows.shape[1]))
    return rows.unflatten(1, (-1, compiled.ROW)).transpose(2, 3).contiguous()


def widen(table: Tensor, groups: int) -> Tensor:
    """Pad the numbers of each group of output channels to whole vectors.

    Args:
        table (Tensor): Shape ``(rows, C_out)``.
        groups (int): Groups of the convolution.

    Returns:
        Tensor: Shape ``(rows, groups * row_width(C_out / groups))``.
    """
    rows = table.unflatten(1, (groups, -1))
    rows = F.pad(rows, (0, row_width(rows.shape[2]) - rows.shape[2]))
    return rows.flatten(1).contiguous()


class _Start(NamedTuple):
    """How a job is started: ``job(*head, *addresses of tensors, *counters)`` is a :class:`Job`."""

    schedule: Schedule
    job: Callable[..., Any]
    head: tuple[int, ...]
    counters: list[int]


class Plan:
    """A packed layer on images of one size: all that its convolution reads besides the images.

    Args:
        geometry (Geometry): Geometry of the layer.
        size (tuple[int, int]): Height and width of the output, in pixels.
        in_shift (Tensor): ``(C_in,)``, float32, added to the input before its signs are taken.
        filters (Tensor): Filters as :func:`block_filters` returns them.
        base (Tensor): ``(B, width)``, int32. The sum where no bit differs, for each way to meet the border;
            ``width`` as :func:`widen` makes it.
        table (Tensor): ``(9, width)``, float32, the steps of :mod:`surge_mm.deploy.epilogue`.
        activated (bool): Whether the table has steps after the shortcut.
        channels (int): Output channels, C_out.
        out_shift (Tensor): ``(width,)``, float32, added to the output before its signs are taken.
        next_geometry (Geometry, optional): Geometry of the layer that reads the signs of the output. None if no signs
            are written.
    """

    def __init__(
        self,
        geometry: Geometry,
        size: tuple[int, int],
        in_shift: Tensor,
        filters: Tensor,
        base: Tensor,
        table: Tensor,
        activated: bool,
        channels: int,
        out_shift: Tensor,
        next_geometry: Geometry | None,
    ) -> None:
        self.size = size
        # keep the tensors whose addresses are below
        self._owners = (geometry, in_shift, filters, base, table, out_shift, next_geometry)
        compiled = kernels()
        groups, blocks = filters.shape[:2]
        pixels = len(geometry.offsets)
        tiles = -(-pixels // min(compiled.PIXELS, pixels))
        slices = min(blocks, -(-ENOUGH_UNITS // (tiles * groups)))
        arguments = LayerArguments(
            offsets=geometry.offsets.data_ptr(),
            steps=geometry.steps.data_ptr(),
            n_steps=geometry.steps.shape[1],
            column_step=geometry.column_step,
            image_bytes=geometry.image_words * 8,
            pixels=pixels,
            filters=filters.data_ptr(),
            groups=groups,
            block_bytes=filters[0, 0].nbytes,
            base=base.data_ptr(),
            borders=geometry.borders.data_ptr(),
            table=table.data_ptr(),
            width=table.shape[1],
            channels=channels,
            slices=slices,
            activated=activated,
            out_shift=out_shift.data_ptr(),
            out_places=0 if next_geometry is None else next_geometry.places.data_ptr(),
            signs_bytes=0 if next_geometry is None else next_geometry.image_words * 8,
            in_shift=in_shift.data_ptr(),
            in_places=geometry.places.data_ptr(),
            in_channels=len(in_shift),
            in_pixels=len(geometry.places),
        )
        self._arguments = (ctypes.c_int64 * len(arguments))(*arguments)
        self._address = ctypes.addressof(self._arguments)
        self._units = tiles * groups * slices
        self._pixels = len(geometry.places)
        self._convolving = pixels * filters.numel()  # operations on an image
        self._packing = self._pixels * len(in_shift)
        self._starts: dict[tuple[int, bool, bool, int], _Start] = {}

    def run(
        self,
        images: int,
        x: Tensor | None,
        words: Tensor,
        shortcut: Tensor | None,
        out: Tensor | None,
        signs: Tensor | None,
    ) -> None:
        """Convolve sign bits and apply the epilogue. All tensors are dense, images in the format channels_last.

        Args:
            images (int): Number of images, N.
            x (Tensor, optional): Input, ``(N, C_in, H, W)``, float32. Its sign bits are first written into ``words``;
                None if they are there already.
            words (Tensor): ``(N, words of a padded image)``, int64.
            shortcut (Tensor, optional): ``(N, C_out, H', W')``, float32, added to the output.
            out (Tensor, optional): Output of the shape of ``shortcut``, float32, written. None if only signs are
                wanted.
            signs (Tensor, optional): ``(N, words of a padded image of the next layer)``, int64, written within the
                border.
        """
        self._run(self._start(images, x is not None, True), x, words, shortcut, out, signs)

    def pack(self, images: int, x: Tensor, words: Tensor) -> None:
        """Write the sign bits of an input into ``words``, without a convolution.

        Args:
            images (int): Number of images, N.
            x (Tensor): As for :meth:`run`.
            words (Tensor): As for :meth:`run`.
        """
        self._run(self._start(images, True, False), x, words, None, None, None)

    def _run(self, start: _Start, *tensors: Tensor | None) -> None:
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        schedule = start.schedule
        job = start.job(*start.head, *addresses, *start.counters)
        schedule.team.run(job, schedule.threads)

    def _start(self, images: int, packs: bool, convolves: bool) -> _Start:
        key = images, packs, convolves, number_of_threads()
        found = self._starts.get(key)
        if found is None:
            if len(self._starts) >= MOST_SCHEDULES:
                self._starts.clear()
            found = self._starts[key] = self._new_start(*key)
        return found

    def _new_start(self, images: int, packs: bool, convolves: bool, threads: int) -> _Start:
        schedule = make_schedule(
            threads,
            images * self._pixels * packs,
            images * self._units * convolves,
            images * (self._packing * packs + self._convolving * convolves),
        )
        team, count, *parts = schedule
        return _Start(
            schedule,
            ctypes.c_int64 * (len(Job._fields) + 2 * count),
            (0, 0, count, team.own_number, *parts, self._address),
            schedule.counters(),
        )
