"""Signs as bits. A bit is 1 where the sign bit of the number is set, so sums of signs become popcounts.

For n pairs of signs, ``sum(s_i t_i) = n - 2 popcount(bits(s) ^ bits(t))``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WORD, BYTE = 32, 8
WORD_BYTES = WORD // BYTE


def pack_bytes(z: Tensor) -> Tensor:
    """Pack the sign bits of each filter into bytes, the first weight in the lowest bit.

    Args:
        z (Tensor): Weights, shape ``(C_out, ...)`` with n weights per filter.

    Returns:
        Tensor: uint8, shape ``(C_out, ceil(n / 8))``. Unused bits are 0.
    """
    return _packed(torch.signbit(z).flatten(1), BYTE).to(torch.uint8)


def unpack_bytes(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the signs that :func:`pack_bytes` has packed.

    Args:
        packed (Tensor): uint8, shape ``(C_out, ceil(n / 8))``.
        shape (tuple[int, ...]): Shape of the weight, ``(C_out, ...)``.

    Returns:
        Tensor: float32 of ``shape``, +1 and -1.
    """
    places = torch.arange(BYTE, dtype=torch.uint8, device=packed.device)
    bits = packed.unsqueeze(-1) >> places & 1
    bits = bits.flatten(1)[:, : math.prod(shape[1:])].to(torch.float32)
    return (1 - 2 * bits).reshape(shape)


def pack_words(z: Tensor) -> Tensor:
    """Pack the sign bits along the last axis into words, the first in the lowest bit.

    Args:
        z (Tensor): Shape ``(..., C)``.

    Returns:
        Tensor: int32, shape ``(..., ceil(C / 32))``. Unused bits are 0.
    """
    words = _packed(torch.signbit(z), WORD)
    return (words - (words >> WORD - 1 << WORD)).to(torch.int32)  # its highest bit is the sign


def _packed(bits: Tensor, size: int) -> Tensor:
    bits = F.pad(bits, (0, -bits.shape[-1] % size)).unflatten(-1, (-1, size))
    places = torch.arange(size, device=bits.device)
    return (bits.long() << places).sum(-1)  # distinct bits: the sum is their union
