r"""Attention of BERT: real, BiBERT's and BiT's.

With queries, keys and values Q, K, V of each head, d features of a head, and a mask that is 0, or minus infinity for
padding::

    real       softmax(Q K^T / sqrt(d) + mask) V
    bi         step(sign(Q) sign(K)^T / sqrt(d) + mask) sign(V),        step(s) = 1{s > 0}
    elastic    e(softmax(q(Q) q(K)^T / sqrt(d) + mask)) q(V)

with elastic signs q (:class:`surge_mm.ops.ElasticSign`, each with a shift and a scale of its own) and elastic values
e of 0 and alpha (:class:`surge_mm.ops.ElasticBinary`). Dropout follows step and e. The products of attention have no
weights, hence no auxiliary branch: their gradient is the surrogate gradient alone.

Source: Qin et al., BiBERT, arXiv 2203.06390 (bi); Liu et al., BiT, arXiv 2205.13016 (elastic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.layers import BinaryActivation
from surge_mm.registry import MODELS


@dataclass(frozen=True)
class BertSpec:
    """Arguments of :class:`surge_mm.SurgeBert` that all layers of the encoder have in common.

    Attributes:
        hidden_size (int): Number of features of a token.
        num_attention_heads (int): Number of heads of each attention.
        intermediate_size (int): Number of features inside the feed-forward layers.
        hidden_dropout_prob (float): Dropout of the outputs of the layers.
        attention_probs_dropout_prob (float): Dropout of the attention probabilities.
        layer_norm_eps (float): Added to the variance by the layer norms.
        activation (str): ``'gelu'`` or ``'relu'``.
        attention (str): ``'real'``, ``'bi'`` or ``'elastic'``.
        attention_bits (int): Bits of the elastic binarizers of the attention.
        linear_cfg (dict, optional): Config of the linear layers. None for ``nn.Linear``.
        ffn_activation (dict, optional): Activation binarizer of the second feed-forward layers. None for that of
            ``linear_cfg``.
    """

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    layer_norm_eps: float
    activation: str
    attention: str
    attention_bits: int
    linear_cfg: dict[str, Any] | None
    ffn_activation: dict[str, Any] | None

    def linear(
        self, in_features: int, out_features: int, activation: dict[str, Any] | None = None
    ) -> nn.Module:
        """Build a linear layer.

        Args:
            in_features (int): Number of input features.
            out_features (int): Number of output features.
            activation (dict, optional): Activation binarizer. Defaults to None: that of ``linear_cfg``.
        """
        if self.linear_cfg is None:
            return nn.Linear(in_features, out_features)
        cfg = {**self.linear_cfg, 'in_features': in_features, 'out_features': out_features}
        if cfg['type'] == 'surge_mm.SurgeConv2d':
            cfg['type'] = 'surge_mm.SurgeLinear'
        return MODELS.build(cfg if activation is None else {**cfg, 'activation': activation})


class Projections(NamedTuple):
    """Queries, keys and values of an attention, each ``(B, heads, L, d)``.

    Attributes:
        query (Tensor): Queries.
        key (Tensor): Keys.
        value (Tensor): Values.
    """

    query: Tensor
    key: Tensor
    value: Tensor


class BertSelfAttention(nn.Module):
    """Queries, keys and values of each token, and real attention.

    Args:
        spec (BertSpec): The encoder.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__()
        self.heads = spec.num_attention_heads
        self.query = spec.linear(spec.hidden_size, spec.hidden_size)
        self.key = spec.linear(spec.hidden_size, spec.hidden_size)
        self.value = spec.linear(spec.hidden_size, spec.hidden_size)
        self.dropout = nn.Dropout(spec.attention_probs_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Projections]:
        """Return the result of the attention, and the real queries, keys and values.

        Args:
            x (Tensor): Hidden states, ``(B, L, hidden_size)``.
            mask (Tensor): True for the tokens that are no padding, ``(B, 1, 1, L)``.
        """
        real = Projections(self.query(x), self.key(x), self.value(x))
        out = self.attend(self.split(self.binarized(real)), mask)
        return out.transpose(1, 2).flatten(2), self.split(real)

    def split(self, projections: Projections) -> Projections:
        """Return projections ``(B, L, hidden_size)`` as those of each head, ``(B, heads, L, d)``."""
        return Projections(
            *(x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projections)
        )

    def binarized(self, projections: Projections) -> Projections:
        """Return the projections that the attention multiplies: those of this class are real."""
        return projections

    def attend(self, projections: Projections, mask: Tensor) -> Tensor:
        """Return the result of each head, ``(B, heads, L, d)``.

        Args:
            projections (Projections): Queries, keys and values, each ``(B, heads, L, d)``.
            mask (Tensor): As for :meth:`forward`.
        """
        dropout = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(*projections, attn_mask=mask, dropout_p=dropout)


class BinarySelfAttention(BertSelfAttention):
    """Attention whose two matrix products are binary: BiBERT's or BiT's.

    Args:
        spec (BertSpec): The encoder, with the attention ``'bi'`` or ``'elastic'``.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__(spec)
        self.softmax = spec.attention == 'elastic'
        signs: dict[str, Any] = {'type': 'STESign'}
        scores: dict[str, Any] = {'type': 'Step'}
        if self.softmax:
            signs = {'type': 'ElasticSign', 'bits': spec.attention_bits}
            scores = {'type': 'ElasticBinary', 'bits': spec.attention_bits}
        self.query_binarizer = BinaryActivation(signs, spec.hidden_size)
        self.key_binarizer = BinaryActivation(signs, spec.hidden_size)
        self.value_binarizer = BinaryActivation(signs, spec.hidden_size)
        self.scores_binarizer = BinaryActivation(scores)

    def binarized(self, projections: Projections) -> Projections:
        """Return the binary projections, ``(B, L, hidden_size)``; in inference, without their scales."""
        binarizers = (self.query_binarizer, self.key_binarizer, self.value_binarizer)
        pairs = zip(binarizers, projections, strict=True)
        if self._infers(projections):
            return Projections(*(binarizer.whole_values(x) for binarizer, x in pairs))
        return Projections(*(binarize(x) for binarize, x in pairs))

    def _infers(self, projections: Projections) -> bool:
        if self.training or not torch.is_grad_enabled():
            return not self.training
        return not any(tensor.requires_grad for tensor in (*projections, *self.parameters()))

    def attend(self, projections: Projections, mask: Tensor) -> Tensor:
        """Return the result of each head, ``(B, heads, L, d)``.

        In evaluation, where nothing needs a gradient, both products are of whole numbers, which are exact in any order,
        and scaled afterwards. So the result does not depend on the padding and the rest of the batch, up to the
        softmax.

        Args:
            projections (Projections): What :meth:`binarized` returns, each ``(B, heads, L, d)``.
            mask (Tensor): As for :meth:`forward`.
        """
        query, key, value = projections
        exact = self._infers(projections)
        factor = self.query_binarizer.scale * self.key_binarizer.scale if exact else 1.0
        scores = query @ key.transpose(-1, -2) * (factor / query.shape[-1] ** 0.5)
        padding = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float('-inf'))
        scores += padding  # masked_fill_ of all scores would not be vectorized
        scores = scores.softmax(dim=-1) if self.softmax else scores
        if not exact:
            return self.dropout(self.scores_binarizer(scores)) @ value
        weights = self.dropout(self.scores_binarizer.whole_values(scores))
        return weights @ value * (self.scores_binarizer.scale * self.value_binarizer.scale)
