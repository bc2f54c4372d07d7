"""Signs as bits: 1 for what the sign bit makes negative, so a sum of signs is a count of equal bits.

For n pairs of signs, ``sum(s_i t_i) = n - 2 popcount(bits(s) ^ bits(t))``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WORD = 64
BYTE = 8


def pack_bytes(z: Tensor) -> Tensor:
    """The sign bits of each filter, in the order of its weights, 8 in a byte, the first in the lowest bit.

    Shape: ``(C_out, ...) -> (C_out, ceil(n / 8))`` of uint8, n weights in a filter. Bits left over are 0.
    """
    bits = torch.signbit(z).flatten(1)  # of int8 too
    bits = F.pad(bits, (0, -bits.shape[1] % BYTE)).unflatten(1, (-1, BYTE))
    places = torch.arange(BYTE, device=z.device)
    return (bits.long() << places).sum(-1).to(torch.uint8)


def unpack_bytes(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The signs, +1 or -1, of a weight of ``shape``: what :func:`pack_bytes` made ``packed`` of. float32."""
    places = torch.arange(BYTE, device=packed.device)
    bits = (packed.unsqueeze(-1).long() >> places) & 1
    n = shape[1:].numel() if isinstance(shape, torch.Size) else torch.Size(shape[1:]).numel()
    return (1 - 2 * bits.flatten(1)[:, :n]).to(torch.float32).reshape(shape)


def pack_words(z: Tensor) -> Tensor:
    """The sign bits along the last axis, 64 in a word, the first in the lowest bit.

    Shape: ``(..., C) -> (..., ceil(C / 64))`` of int64. Bits left over are 0.
    """
    bits = torch.signbit(z)
    bits = F.pad(bits, (0, -bits.shape[-1] % WORD)).unflatten(-1, (-1, WORD))
    places = torch.arange(WORD, device=z.device)
    return (bits.long() << places).sum(
        -1
    )  # distinct bits: the sum is their union, whatever the sign
