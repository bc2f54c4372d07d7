"""What a packed layer hands to the compiled loops: its tensors in their layout, and the addresses of all of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.backend import kernels
from surge_mm.deploy.cpu.bitpacking import WORD_BYTES
from surge_mm.deploy.cpu.geometry import geometry
from surge_mm.deploy.cpu.job import Job, LayerArguments
from surge_mm.deploy.cpu.passes import PARTS, layout
from surge_mm.deploy.cpu.threads import recording, single_thread, thread_team
from surge_mm.deploy.cpu.thresholds import count_thresholds

if TYPE_CHECKING:
    from surge_mm.deploy.cpu.layer import CpuLayer

ENOUGH_UNITS = 28
"""Units of an image, at least, that can be shared out to threads. Small images have too few tiles for that."""
WORTH_THREADS = 1 << 16
"""Operations below which a layer runs on one thread: waking up another one would take longer."""
FIRST_TENSOR = Job._fields.index('x')
"""Field of a job with the first address of a tensor."""
MOST_STARTS = 64
"""Numbers of images and threads that a plan keeps."""


def row_width(channels: int) -> int:
    """Return the number of channels rounded up to whole vectors of 16.

    Args:
        channels (int): Output channels of one group.
    """
    return -(-channels // 16) * 16


def block_filters(words: Tensor) -> Tensor:
    """Arrange the words of filters in the order in which the loops read them.

    If the loops look counts up, a word is divided as :mod:`surge_mm.deploy.cpu.codegen.table_counts` states.

    Args:
        words (Tensor): int32, shape ``(groups, filters, kH, kW, K)`` with K words per tap.

    Returns:
        Tensor: ``(groups, blocks, n, 16)``, int32, with n words of a filter, zeros where a block has fewer filters;
        ``(groups, blocks, 8 n, 32)``, uint8, for tables.
    """
    compiled = kernels()
    if compiled.BY_TABLES:
        rows = _pad_rows(words.flatten(2), compiled.BLOCK_FILTERS).view(torch.int16)
        fours = torch.stack([rows >> shift & 15 for shift in (0, 4, 8, 12)], dim=-1).to(torch.uint8)
        fours = (
            fours.unflatten(2, (-1, 2)).transpose(3, 4).flatten(2)
        )  # steps: a word, bits, 16 bits
        halves = fours.unflatten(1, (-1, 2, compiled.ROW))
        return halves.permute(0, 1, 4, 3, 2).flatten(3).contiguous()
    rows = _pad_rows(words.flatten(2), compiled.ROW)
    return rows.unflatten(1, (-1, compiled.ROW)).transpose(2, 3).contiguous()


def _pad_rows(rows: Tensor, count: int) -> Tensor:
    return F.pad(rows, (0, 0, 0, -rows.shape[1] % count))


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


class Start(NamedTuple):
    """A plan for so many images and threads.

    Attributes:
        shape (tuple[int, ...]): Shape of the output, ``(N, C_out, H', W')``.
        strides (tuple[int, ...]): Its strides, those of the memory format channels_last.
        team_run (Callable): As ``Team.run``.
        threads (int): Number of threads.
        job (type): Array of C for a :class:`Job` and the counters of its threads.
        template (bytes): Content of the array, in which the addresses of the tensors are 0.
        function (int): Address of the C function that works on a job.
        owner (Plan): Holder of what the template has addresses of.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    team_run: Callable[[Any, int], None]
    threads: int
    job: Any
    template: bytes
    function: int
    owner: Plan

    def run(
        self,
        x: Tensor | None,
        words: Tensor,
        shortcut: Tensor | None,
        out: Tensor | None,
        signs: Tensor | None,
    ) -> None:
        """Convolve sign bits and apply the epilogue. All tensors are dense, images in the format channels_last.

        Args:
            x (Tensor, optional): Input, ``(N, C_in, H, W)``, float32. Its sign bits are first written into ``words``;
                None if they are there already.
            words (Tensor): ``(N, words of a padded image)``, int32.
            shortcut (Tensor, optional): ``(N, C_out, H', W')``, float32, added to the output.
            out (Tensor, optional): Output of the shape of ``shortcut``, float32, written. None if only signs are
                wanted.
            signs (Tensor, optional): ``(N, words of a padded image of the next layer)``, int32, written within the
                border.
        """
        job = self.job.from_buffer_copy(self.template)  # a third of the time of a new array
        for field, tensor in enumerate((x, words, shortcut, out, signs), FIRST_TENSOR):
            if tensor is not None:
                job[field] = tensor.data_ptr()
        if recording.recorder is not None:
            recording.recorder.record_call(self.function, job, self.threads, self.owner)
        self.team_run(job, self.threads)


class Plan:
    """A packed layer on images of one size: all that its convolution reads besides the images.

    Args:
        layer (CpuLayer): The layer.
        size (tuple[int, int]): Height and width of the input, in pixels.
        following (CpuLayer, optional): The layer that reads the signs of the output. None if no signs are written.

    Attributes:
        layer (CpuLayer): The layer.
        input_size (tuple[int, int]): As ``size`` above.
        size (tuple[int, int]): Height and width of the output, in pixels.
        pixels (int): Pixels of an input image.
        units (int): Units of an image, see :class:`~surge_mm.deploy.cpu.job.Job`.
        address (int): Address of its :class:`~surge_mm.deploy.cpu.job.LayerArguments`.
    """

    @torch.inference_mode(False)  # kept, and read in either mode
    def __init__(self, layer: CpuLayer, size: tuple[int, int], following: CpuLayer | None) -> None:
        convolution, kernel_size = layer.convolution, layer.kernel_size
        own = geometry(convolution, layer.channels, kernel_size, size)
        self.layer, self.input_size = layer, size
        self.size = convolution.output_size(*size, kernel_size)
        filters, table = layer.filters, layer.table
        channels, groups = layer.weight_shape[0], convolution.groups
        base = torch.full((len(own.inside), channels), float(layer.weight_shape[1:].numel()))
        if layer.pad_value == 0:  # the bits of the border count as +1: subtract what they add
            # double, which autocast leaves alone
            base -= (~own.inside).double() @ layer.tap_sums.t().double()
        base = widen(base, groups).to(torch.int32)
        following_geometry, out_shift = None, table[0]  # the shift is not read without signs
        if following is not None:
            out_shift = widen(following.shift[None], groups)[0]
            following_geometry = geometry(
                following.convolution, following.channels, following.kernel_size, self.size
            )
        # the tensors whose addresses are below are kept
        self._owners = [own, layer.shift, filters, base, table, out_shift, following_geometry]
        self._base, self._without_thresholds = base, following
        compiled = kernels()
        blocks, pixels = filters.shape[1], len(own.offsets)
        line = self.size[1] if compiled.BY_TABLES else pixels
        tiles = pixels // line * -(-line // min(compiled.PIXELS, line))
        slices = min(blocks, -(-ENOUGH_UNITS // (tiles * groups)))
        arguments = LayerArguments(
            offsets=own.offsets.data_ptr(),
            steps=own.steps.data_ptr(),
            n_steps=own.steps.shape[1],
            image_bytes=own.image_words * WORD_BYTES,
            pixels=pixels,
            line=line,
            filters=filters.data_ptr(),
            groups=groups,
            block_bytes=filters[0, 0].nbytes,
            base=base.data_ptr(),
            borders=own.borders.data_ptr(),
            table=table.data_ptr(),
            width=table.shape[1],
            channels=channels,
            slices=slices,
            activated=layer.activated,
            out_shift=out_shift.data_ptr(),
            out_places=0 if following_geometry is None else following_geometry.places.data_ptr(),
            signs_bytes=0
            if following_geometry is None
            else following_geometry.image_words * WORD_BYTES,
            thresholds=0,
            in_shift=layer.shift.data_ptr(),
            in_places=own.places.data_ptr(),
            in_channels=layer.channels,
            in_pixels=len(own.places),
        )
        self._arguments = (ctypes.c_int64 * len(arguments))(*arguments)
        self.address = ctypes.addressof(self._arguments)
        self.units = tiles * groups * slices
        self.pixels = len(own.places)
        work = pixels * filters.numel()  # operations on an image
        self._convolving = work // 16 if compiled.BY_TABLES else work
        self._packing = self.pixels * layer.channels
        self._channels = channels
        self.start = lru_cache(MOST_STARTS)(self._new_start)

    def use_thresholds(self) -> None:
        """Have the signs of the output made by thresholds where nothing but them is written, if there are any.

        They are found at the first call that is not recorded: the search runs a pass of its own.
        """
        following = self._without_thresholds
        if following is None or recording.recorder is not None:
            return
        changes = self.layer.sign_changes(following)
        if changes is not None:
            thresholds = count_thresholds(self._base, changes, self.layer.weight_shape[1:].numel())
            # those that another thread has found at the same time are kept too: a kernel may be reading them
            self._owners.append(thresholds)
            self._arguments[LayerArguments._fields.index('thresholds')] = thresholds.data_ptr()
        self._without_thresholds = None

    def _new_start(self, images: int, packs: bool, threads: int) -> Start:
        """Return the plan for so many images.

        Args:
            images (int): Number of images, N.
            packs (bool): Whether the sign bits of the input are to be written first.
            threads (int): Threads of PyTorch.
        """
        if images * (self._packing * packs + self._convolving) < WORTH_THREADS:
            threads = 1
        function = kernels().run_parts.address
        team = single_thread(function) if threads == 1 else thread_team(function)
        pixels, units = images * self.pixels * packs, images * self.units
        parts = [min(total, PARTS * threads) for total in (pixels, units)]
        counters = tuple(owner * count // threads for owner in range(threads) for count in parts)
        shape, strides = layout(images, self._channels, *self.size)
        head = (0, 0, threads, team.own_number, *parts, pixels, units, self.address)
        content = (*head, *(0,) * (len(Job._fields) - len(head)), *counters)
        job = ctypes.c_int64 * len(content)
        return Start(
            shape,
            strides,
            team.run,
            threads,
            job,
            bytes(job(*content)),
            function,
            self,
        )
