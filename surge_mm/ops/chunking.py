"""Element-wise work in pieces that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1 << 20
"""Elements in a piece: 4 MiB of float32."""


def in_blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Corresponding pieces of tensors of one shape, for element-wise work in place.

    On a CPU, several passes over a large tensor wait for the memory each time; over a piece, the first alone does. On
    other devices, in compiled code, and for tensors that do not lie alike in memory, the one piece is the tensors
    themselves.
    """
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != 'cpu' or first.numel() <= BLOCK:
        yield tensors
    elif _dense(tensors):
        flat = (t.as_strided((t.numel(),), (1,)).split(BLOCK) for t in tensors)
        yield from zip(*flat, strict=True)
    elif len(first) > 1:
        for parts in zip(*(t.split(1) for t in tensors), strict=True):
            yield from in_blocks(*parts)
    else:
        yield tensors


def _dense(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all lie without gaps and in one order."""
    formats = [torch.contiguous_format]
    if tensors[0].dim() == 4:
        formats.append(torch.channels_last)
    return any(all(t.is_contiguous(memory_format=f) for t in tensors) for f in formats)
