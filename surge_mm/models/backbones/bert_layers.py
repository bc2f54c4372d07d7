"""Parts of BERT: embeddings, attention and feed-forward layers, named as in Hugging Face's implementation.

Source: Devlin et al., BERT, arXiv 1810.04805.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.registry import MODELS

LinearBuilder = Callable[[int, int], nn.Module]
"""Builds a linear layer from its numbers of input and output features."""


def linear_builder(linear_cfg: dict[str, Any] | None) -> LinearBuilder:
    """Return the function that builds a linear layer.

    Args:
        linear_cfg (dict, optional): Config of the layer without its sizes. None for ``nn.Linear``.
    """
    if linear_cfg is None:
        return nn.Linear
    return lambda inputs, outputs: MODELS.build(
        {**linear_cfg, 'in_features': inputs, 'out_features': outputs}
    )


class Sizes(NamedTuple):
    """Sizes of an encoder, as in the config of Hugging Face's BERT.

    Attributes:
        hidden_size (int): Number of features of a token.
        num_attention_heads (int): Number of heads of each attention.
        intermediate_size (int): Number of features inside the feed-forward layers.
        hidden_dropout_prob (float): Dropout of the outputs of the layers.
        attention_probs_dropout_prob (float): Dropout of the attention probabilities.
        layer_norm_eps (float): Added to the variance by the layer norms.
    """

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    layer_norm_eps: float


class Projections(NamedTuple):
    """Queries, keys and values of an attention, real, each ``(B, heads, L, hidden_size / heads)``.

    Attributes:
        query (Tensor): Queries.
        key (Tensor): Keys.
        value (Tensor): Values.
    """

    query: Tensor
    key: Tensor
    value: Tensor


class BertEmbeddings(nn.Module):
    """Sum of the embeddings of the token, its position and its segment, with layer norm and dropout.

    Args:
        vocab_size (int): Number of tokens of the vocabulary.
        max_position_embeddings (int): Largest number of tokens of an input.
        type_vocab_size (int): Number of segments.
        sizes (Sizes): Sizes of the encoder.

    Shape: two of ``(B, L)`` to ``(B, L, hidden_size)``.
    """

    def __init__(
        self, vocab_size: int, max_position_embeddings: int, type_vocab_size: int, sizes: Sizes
    ) -> None:
        super().__init__()
        width = sizes.hidden_size
        self.word_embeddings = nn.Embedding(vocab_size, width)
        self.position_embeddings = nn.Embedding(max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, sizes.layer_norm_eps)
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return the embeddings.

        Args:
            input_ids (Tensor): Tokens, ``(B, L)``.
            token_type_ids (Tensor): Segments, ``(B, L)``.
        """
        words = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        return self.dropout(
            self.LayerNorm(words + self.position_embeddings.weight[: input_ids.shape[1]])
        )


class BertSelfAttention(nn.Module):
    """Queries, keys and values of each token, and real attention: ``softmax(Q K^T / sqrt(d) + mask) V``.

    Args:
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the projections.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, sizes: Sizes, linear: LinearBuilder) -> None:
        super().__init__()
        self.heads = sizes.num_attention_heads
        self.query = linear(sizes.hidden_size, sizes.hidden_size)
        self.key = linear(sizes.hidden_size, sizes.hidden_size)
        self.value = linear(sizes.hidden_size, sizes.hidden_size)
        self.dropout = nn.Dropout(sizes.attention_probs_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Projections]:
        """Return the result of the attention, and the projections.

        Args:
            x (Tensor): Hidden states, ``(B, L, hidden_size)``.
            mask (Tensor): True for the tokens that are no padding, ``(B, 1, 1, L)``.
        """
        projections = Projections(
            self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        )
        out = self.attend(projections, mask)
        return out.transpose(1, 2).flatten(2), projections

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, projections: Projections, mask: Tensor) -> Tensor:
        """Return the attention of each head, ``(B, heads, L, d)``.

        Args:
            projections (Projections): Queries, keys and values.
            mask (Tensor): As for :meth:`forward`.
        """
        dropout = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(*projections, attn_mask=mask, dropout_p=dropout)


class BertResidual(nn.Module):
    """Linear layer, dropout, shortcut and layer norm: ``LayerNorm(dense(x) + shortcut)``.

    Args:
        features (int): Features of the input of the linear layer.
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layer.

    Shape: ``(B, L, features) -> (B, L, hidden_size)``.
    """

    def __init__(self, features: int, sizes: Sizes, linear: LinearBuilder) -> None:
        super().__init__()
        self.dense = linear(features, sizes.hidden_size)
        self.LayerNorm = nn.LayerNorm(sizes.hidden_size, sizes.layer_norm_eps)
        self.dropout = nn.Dropout(sizes.hidden_dropout_prob)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """Return ``LayerNorm(dense(x) + shortcut)``.

        Args:
            x (Tensor): ``(B, L, features)``.
            shortcut (Tensor): ``(B, L, hidden_size)``.
        """
        return self.LayerNorm(self.dropout(self.dense(x)) + shortcut)


class BertAttention(nn.Module):
    """Attention with its output layer and shortcut.

    Args:
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layers.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, sizes: Sizes, linear: LinearBuilder) -> None:
        super().__init__()
        self.self = BertSelfAttention(sizes, linear)
        self.output = BertResidual(sizes.hidden_size, sizes, linear)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Projections]:
        """Return the output and the projections.

        Args:
            x (Tensor): As for :class:`BertSelfAttention`.
            mask (Tensor): As for :class:`BertSelfAttention`.
        """
        attended, projections = self.self(x, mask)
        return self.output(attended, x), projections


class BertIntermediate(nn.Module):
    """First feed-forward layer with its activation.

    Args:
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layer.
        activation (str): ``'gelu'`` or ``'relu'``.

    Shape: ``(B, L, hidden_size) -> (B, L, intermediate_size)``.
    """

    def __init__(self, sizes: Sizes, linear: LinearBuilder, activation: str) -> None:
        super().__init__()
        self.dense = linear(sizes.hidden_size, sizes.intermediate_size)
        self.activation = nn.GELU() if activation == 'gelu' else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class BertLayer(nn.Module):
    """One layer of the encoder: attention, then the feed-forward layers.

    Args:
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layers.
        activation (str): ``'gelu'`` or ``'relu'``.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, sizes: Sizes, linear: LinearBuilder, activation: str) -> None:
        super().__init__()
        self.attention = BertAttention(sizes, linear)
        self.intermediate = BertIntermediate(sizes, linear, activation)
        self.output = BertResidual(sizes.intermediate_size, sizes, linear)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Projections]:
        """Return the output and the projections.

        Args:
            x (Tensor): As for :class:`BertSelfAttention`.
            mask (Tensor): As for :class:`BertSelfAttention`.
        """
        x, projections = self.attention(x, mask)
        return self.output(self.intermediate(x), x), projections


class BertEncoder(nn.Module):
    """The layers of BERT, in ``layer``.

    Args:
        num_hidden_layers (int): Number of layers.
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layers.
        activation (str): ``'gelu'`` or ``'relu'``.
    """

    def __init__(
        self, num_hidden_layers: int, sizes: Sizes, linear: LinearBuilder, activation: str
    ) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            BertLayer(sizes, linear, activation) for _ in range(num_hidden_layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[list[Tensor], list[Projections]]:
        """Return the input and the outputs of all layers, and their projections.

        Args:
            x (Tensor): Embeddings, ``(B, L, hidden_size)``.
            mask (Tensor): As for :class:`BertSelfAttention`.
        """
        states, projections = [x], []
        for layer in self.layer:
            x, projection = layer(x, mask)
            states.append(x)
            projections.append(projection)
        return states, projections


class BertPooler(nn.Module):
    """Feature of a sentence: ``tanh(dense(x))`` of the first token.

    Args:
        sizes (Sizes): Sizes of the encoder.
        linear (LinearBuilder): Builds the linear layer.

    Shape: ``(B, L, hidden_size) -> (B, hidden_size)``.
    """

    def __init__(self, sizes: Sizes, linear: LinearBuilder) -> None:
        super().__init__()
        self.dense = linear(sizes.hidden_size, sizes.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))
