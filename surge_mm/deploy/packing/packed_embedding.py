"""Packed embedding: rows of signs as bits, each with its scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.cpu.bitpacking import pack_bytes, unpack_bytes
from surge_mm.layers import BinaryEmbedding


class PackedEmbedding(nn.Module):
    """Binary embedding without its latent weights, for inference only: ``scale sign + offset`` of the rows asked for.

    Its output equals that of the :class:`surge_mm.layers.BinaryEmbedding`, to the bit.

    Buffers:

    - ``signs``: 8 in a byte, ``(num_embeddings, ceil(embedding_dim / 8))``, uint8;
    - ``scale``: ``(num_embeddings,)``, or ``(1,)`` for one of all rows;
    - ``offset``: as ``scale``, of weights with the values ``+-scale + offset``, or None.

    Args:
        layer (BinaryEmbedding): The embedding to pack.
    """

    signs: Tensor
    scale: Tensor
    offset: Tensor | None

    @torch.no_grad()
    def __init__(self, layer: BinaryEmbedding) -> None:
        super().__init__()
        two = layer.weight_binarizer.two_values(layer.weight)
        assert two is not None
        self.shape = layer.weight.shape
        self.register_buffer('signs', pack_bytes(two.z))
        self.register_buffer('scale', two.alpha.reshape(-1).clone())
        offset = two.offset
        self.register_buffer('offset', None if offset is None else offset.reshape(-1).clone())
        self.eval()

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows of ``input``, ``(...)``, as ``(..., embedding_dim)``.

        Raises:
            IndexError: if an element of ``input`` is no index of a row.
        """
        ids = input.reshape(-1)
        rows_of_ids = F.embedding(ids, self.signs)  # has errors for ids that are out of range
        signs = unpack_bytes(rows_of_ids, (len(ids), self.shape[1])).to(self.scale.dtype)
        rows = signs * self._of(self.scale, ids)
        if self.offset is not None:
            rows = rows + self._of(self.offset, ids)
        return rows.reshape(*input.shape, -1)

    def _of(self, numbers: Tensor, ids: Tensor) -> Tensor:
        return numbers if len(numbers) == 1 else F.embedding(ids, numbers.unsqueeze(-1))

    def extra_repr(self) -> str:
        return f'{self.shape[0]}, {self.shape[1]}'
