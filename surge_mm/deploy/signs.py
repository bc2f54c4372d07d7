"""What packed layers hand to one another: images in a format that the loops read, and sign bits of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.bitpacking import pack_words
from surge_mm.deploy.cpu.geometry import Window


class Signs(NamedTuple):
    """Sign bits of a layer's input, in the padded images of that layer.

    Attributes:
        words (Tensor): ``(N, words of an image)`` of int64.
        size (tuple[int, int]): Height and width of the image without its border.
    """

    words: Tensor
    size: tuple[int, int]


def dense(x: Tensor) -> Tensor:
    """``x`` of ``(N, C, H, W)`` with one pixel's channels behind another's in memory, and no gaps."""
    return x.contiguous(memory_format=torch.channels_last)


def minus_border(window: Window, size: tuple[int, int]) -> Tensor:
    """The words of a padded image that is -1 round nothing: ``(1, words of an image)``."""
    image = F.pad(torch.zeros(size), window.padding, value=-1.0)
    z = image[..., None, None].expand(-1, -1, window.groups, window.channels // window.groups)
    return pack_words(z).reshape(1, -1)
