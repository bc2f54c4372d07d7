"""Element-wise work in chunks that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 20
"""Elements in a chunk: 4 MiB of float32."""


def is_transforming(x: Tensor) -> bool:
    """Return whether ``x`` is computed by a transform of :mod:`torch.func`, or for ``is_grads_batched=True``.

    Such a tensor may stand for a batch of tensors. It cannot be written into one that stands for itself.

    Args:
        x (Tensor): Any shape.
    """
    if torch.compiler.is_compiling():
        return False
    functorch = torch._C._functorch
    return torch._C._are_functorch_transforms_active() or functorch.is_legacy_batchedtensor(x)


def in_chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield corresponding chunks of tensors of one shape, for element-wise work in place.

    On a CPU, each of several passes over a large tensor waits for the memory; over a chunk, only the first does. On
    other devices, in compiled code, and for tensors of different memory layouts, the only chunk is the tensors
    themselves.

    Args:
        *tensors (Tensor): Tensors of one shape.

    Yields:
        tuple[Tensor, ...]: Views of the tensors.
    """
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != 'cpu' or first.numel() <= CHUNK:
        yield tensors
    elif _dense(tensors):
        flat = (t.as_strided((t.numel(),), (1,)).split(CHUNK) for t in tensors)
        yield from zip(*flat, strict=True)
    elif len(first) > 1:
        for parts in zip(*(t.split(1) for t in tensors), strict=True):
            yield from in_chunks(*parts)
    else:
        yield tensors


def _dense(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all have no gaps and one order of elements in memory."""
    formats = [torch.contiguous_format]
    if tensors[0].dim() == 4:
        formats.append(torch.channels_last)
    return any(all(t.is_contiguous(memory_format=f) for t in tensors) for f in formats)
