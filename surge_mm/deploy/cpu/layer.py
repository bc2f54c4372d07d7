"""A packed layer as the compiled loops run it: its tensors in their layout, and a plan for each size of image."""

from __future__ import annotations

from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.bitpacking import pack_words
from surge_mm.deploy.cpu.geometry import check_input
from surge_mm.deploy.cpu.plan import Plan, block_filters, widen
from surge_mm.deploy.cpu.thresholds import changes_of_sums
from surge_mm.deploy.packing.signs import LayerOutput, Signs
from surge_mm.ops import Convolution
from surge_mm.utils.errors import UsageError

MOST_SIZES = 32
"""Sizes of images for which a layer keeps its plans."""


class CpuLayer:
    """The convolution of a packed layer and its epilogue, for the compiled loops.

    It is made of the numbers of the layer as they are; a layer whose numbers change makes a new one.

    Args:
        convolution (Convolution): Stride, padding, dilation and groups.
        weight (Tensor): ``(C_out, C_in / groups, kH, kW)``, float32, +1 and -1.
        pad_value (int): Padding value of the binarized input: 0, 1 or -1.
        shift (Tensor): ``(C_in,)``, float32, added to the input before its signs are taken.
        table (Tensor): ``(9, C_out)``, float32, the steps of :mod:`surge_mm.deploy.packing.epilogue`.
        activated (bool): Whether the table has steps after the shortcut.

    Attributes:
        plan (Callable): ``plan(size, following)`` returns the :class:`~surge_mm.deploy.cpu.plan.Plan` for images of a
            size.
        sign_changes (Callable): ``sign_changes(following)`` returns how the signs that the following layer reads change
            with the sums of this one, as :func:`.thresholds.changes_of_sums`. They are the same for all sizes.
    """

    def __init__(
        self,
        convolution: Convolution,
        weight: Tensor,
        pad_value: int,
        shift: Tensor,
        table: Tensor,
        activated: bool,
    ) -> None:
        self.convolution, self.pad_value = convolution, pad_value
        self.weight_shape = weight.shape
        self.channels = weight.shape[1] * convolution.groups
        self.kernel_size = (weight.shape[2], weight.shape[3])
        groups = convolution.groups
        taps = weight.permute(0, 2, 3, 1)
        self.filters = block_filters(pack_words(taps).unflatten(0, (groups, -1)))
        self.tap_sums = taps.sum(-1).flatten(1)  # (C_out, kH * kW)
        self.shift = shift
        self.table, self.activated = widen(table, groups), activated
        self._empty_image = lru_cache(MOST_SIZES)(self._new_image)
        self.plan = lru_cache(MOST_SIZES)(partial(Plan, self))
        self.sign_changes = lru_cache(MOST_SIZES)(self._sign_changes)

    def run(
        self,
        x: Tensor | Signs,
        shortcut: Tensor | None,
        following: CpuLayer | None,
        values: bool,
    ) -> LayerOutput:
        """Compute the layer.

        Args:
            x (Tensor | Signs): Input, ``(N, C_in, H, W)``, float32, or its sign bits.
            shortcut (Tensor, optional): ``(N, C_out, H', W')``, float32, added after the batch norm.
            following (CpuLayer, optional): The layer that reads the sign bits of the output. None if none are wanted.
            values (bool): Whether the output itself is wanted.

        Raises:
            UsageError: if the input does not fit the convolution, or the shortcut the output.
        """
        pixels = None
        if isinstance(x, Signs):
            words, size = x
            images = words.shape[0]
        else:
            images, channels, *pair = x.shape
            words, size = self.new_signs(images, channels, tuple(pair))  # type: ignore[arg-type]
            pixels = _dense(x)
        plan = self.plan(size, following)
        if shortcut is None and not values:
            plan.use_thresholds()
        start = plan.start(images, pixels is not None, torch.get_num_threads())
        out = made = None
        if values:
            # by strides: more than a microsecond faster than by memory_format
            out = torch.empty_strided(start.shape, start.strides, dtype=torch.float32)
        if shortcut is not None:
            if shortcut.shape != start.shape or shortcut.dtype != torch.float32:
                raise UsageError(
                    f'the shortcut {tuple(shortcut.shape)} of {shortcut.dtype} must be as the output, {start.shape} of '
                    'float32'
                )
            shortcut = pixels if shortcut is x else _dense(shortcut)
        if following is not None:
            made = following.new_signs(images, start.shape[1], plan.size)
        start.run(pixels, words, shortcut, out, None if made is None else made.words)
        return LayerOutput(out, made)

    def can_write_signs_of(self, following: CpuLayer) -> bool:
        """Return whether the channels are those of its input, and the first of each group begins a byte of its signs.

        Args:
            following (CpuLayer): The layer that is to read the signs.
        """
        groups, channels = self.convolution.groups, self.weight_shape[0]
        return (
            following.convolution.groups == 1
            and following.channels == channels
            and (groups == 1 or channels // groups % 16 == 0)
        )

    def new_signs(self, images: int, channels: int, size: tuple[int, int]) -> Signs:
        """Return images for the sign bits of an input: the border as in training, the pixels not written yet.

        Args:
            images (int): Number of images, N.
            channels (int): Channels of the input.
            size (tuple[int, int]): Height and width of the input, in pixels.

        Raises:
            UsageError: if such an input does not fit the convolution.
        """
        image, words = self._empty_image(channels, size)
        if self.pad_value == -1:
            return Signs(image.repeat(images, 1), size)
        return Signs(torch.zeros(images, words, dtype=torch.int32), size)

    def _sign_changes(self, following: CpuLayer) -> tuple[Tensor, Tensor] | None:
        shift = widen(following.shift[None], self.convolution.groups)[0]
        largest = self.weight_shape[1:].numel()
        return changes_of_sums(self.table, self.activated, shift, largest)

    # a recording refuses constants that were made in inference mode
    @torch.inference_mode(False)
    def _new_image(self, channels: int, size: tuple[int, int]) -> tuple[Tensor, int]:
        """Return the words of a padded image, ``(1, words)``, and their number.

        There are bits of -1 in the border if that is the padding value.
        """
        check_input(self.convolution, self.weight_shape, (1, channels, *size))
        border = -1.0 if self.pad_value == -1 else 1.0  # 0 is corrected in the sums
        image = F.pad(torch.zeros(size), self.convolution.padding, value=border)
        groups = self.convolution.groups
        z = image[..., None, None].expand(-1, -1, groups, channels // groups)
        image = pack_words(z).reshape(1, -1)
        return image, image.shape[1]


def _dense(x: Tensor) -> Tensor:
    """Return ``x`` with the channels of a pixel next to one another in memory, and no gaps."""
    return x.contiguous(memory_format=torch.channels_last)
