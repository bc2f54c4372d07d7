"""Parts of BERT: embeddings, attention and feed-forward layers, named as in Hugging Face's implementation.

Source: Devlin et al., BERT, arXiv 1810.04805.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.layers import BinaryEmbedding
from surge_mm.models.backbones.bert_attention import (
    BertSelfAttention,
    BertSpec,
    BinarySelfAttention,
    Projections,
)


class BertEmbeddings(nn.Module):
    """Sum of the embeddings of the token, its position and its segment, with layer norm and dropout.

    Args:
        vocab_size (int): Number of tokens of the vocabulary.
        max_position_embeddings (int): Largest number of tokens of an input.
        type_vocab_size (int): Number of segments.
        spec (BertSpec): The encoder.
        weight (dict, optional): Weight binarizer of the embeddings of the tokens. None for real ones.

    Shape: two of ``(B, L)`` to ``(B, L, hidden_size)``.
    """

    def __init__(
        self,
        vocab_size: int,
        max_position_embeddings: int,
        type_vocab_size: int,
        spec: BertSpec,
        weight: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        if weight is None:
            self.word_embeddings = nn.Embedding(vocab_size, width)
        else:
            self.word_embeddings = BinaryEmbedding(vocab_size, width, weight)
        self.position_embeddings = nn.Embedding(max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

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


class BertResidual(nn.Module):
    """Linear layer, dropout, shortcut and layer norm: ``LayerNorm(dense(x) + shortcut)``.

    Args:
        features (int): Features of the input of the linear layer.
        spec (BertSpec): The encoder.
        activation (dict, optional): Activation binarizer of the linear layer. Defaults to None: that of the encoder.

    Shape: ``(B, L, features) -> (B, L, hidden_size)``.
    """

    def __init__(
        self, features: int, spec: BertSpec, activation: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.dense = spec.linear(features, spec.hidden_size, activation)
        self.LayerNorm = nn.LayerNorm(spec.hidden_size, spec.layer_norm_eps)
        self.dropout = nn.Dropout(spec.hidden_dropout_prob)

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
        spec (BertSpec): The encoder.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__()
        attention = BertSelfAttention if spec.attention == 'real' else BinarySelfAttention
        self.self = attention(spec)
        self.output = BertResidual(spec.hidden_size, spec)

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
        spec (BertSpec): The encoder.

    Shape: ``(B, L, hidden_size) -> (B, L, intermediate_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__()
        self.dense = spec.linear(spec.hidden_size, spec.intermediate_size)
        self.activation = nn.GELU() if spec.activation == 'gelu' else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class BertLayer(nn.Module):
    """One layer of the encoder: attention, then the feed-forward layers.

    Args:
        spec (BertSpec): The encoder.

    Shape: ``(B, L, hidden_size) -> (B, L, hidden_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__()
        self.attention = BertAttention(spec)
        self.intermediate = BertIntermediate(spec)
        self.output = BertResidual(spec.intermediate_size, spec, spec.ffn_activation)

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
        spec (BertSpec): The encoder.
    """

    def __init__(self, num_hidden_layers: int, spec: BertSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(spec) for _ in range(num_hidden_layers))

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
        spec (BertSpec): The encoder.

    Shape: ``(B, L, hidden_size) -> (B, hidden_size)``.
    """

    def __init__(self, spec: BertSpec) -> None:
        super().__init__()
        self.dense = spec.linear(spec.hidden_size, spec.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))
