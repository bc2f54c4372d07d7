"""Embedding with 1-bit weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

from surge_mm.ops import WeightBinarizer
from surge_mm.ops.once_differentiable import once_differentiable
from surge_mm.ops.signs import is_exporting
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.errors import UsageError


class _BinaryWeight(torch.autograd.Function):
    """``Q_W(w)`` with its surrogate gradient: ``_BinaryWeight.apply(w, binarizer)``."""

    @staticmethod
    def forward(w: Tensor, binarizer: WeightBinarizer) -> Tensor:
        return binarizer(w)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        w, ctx.binarizer = inputs
        ctx.save_for_backward(w)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, tensors: tuple[Any, ...]) -> tuple[Tensor | None, ...]:
        return ctx.binarizer.gradient(*tensors, g), None


class BinaryEmbedding(nn.Embedding):
    """Embedding with binary weights, ``Q_W(weight)[ids]``; a filter of the weight binarizer is a row of the table.

    It has no auxiliary branch, which corrects the gradient of real inputs. With a binarizer of each row by itself, such
    as ``ScaledSign``, only the rows of ``ids`` are binarized, outside of ``torch.compile`` and exporters.

    Args:
        num_embeddings (int): Number of rows.
        embedding_dim (int): Number of features of a row.
        weight (dict): Weight binarizer, as for :class:`surge_mm.SurgeLinear`, without a learned gain.

    Shape: ``(...) -> (..., embedding_dim)``.

    Raises:
        UsageError: if the weight binarizer has a learned gain, or its weights are not of two values.
    """

    @checked
    def __init__(
        self, num_embeddings: Positive, embedding_dim: Positive, weight: dict[str, Any]
    ) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.weight_binarizer = WeightBinarizer.build(weight)
        self.weight_binarizer.check(self.weight.shape)
        learns = self.weight_binarizer.learned_gain
        if learns or self.weight_binarizer.two_values(self.weight.detach()) is None:
            problem = 'learns a gain, which an embedding does not have' if learns else 'is real'
            raise UsageError(
                f'BinaryEmbedding: weight={weight!r} {problem}. Take another binarizer, such as '
                "dict(type='ScaledSign')"
            )

    def forward(self, input: Tensor) -> Tensor:
        rows = self.weight
        if self.weight_binarizer.per_filter and not (is_compiling() or is_exporting()):
            ids, input = torch.unique(input, return_inverse=True)
            rows = F.embedding(ids, rows)
        return F.embedding(input, _BinaryWeight.apply(rows, self.weight_binarizer))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, weight={self.weight_binarizer}'
