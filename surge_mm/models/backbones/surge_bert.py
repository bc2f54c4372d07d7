"""BERT with binary linear layers."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from mmengine.model import BaseModule
from torch import Tensor

from surge_mm.layers import BinaryLayer
from surge_mm.models.backbones.base import StrictLoading
from surge_mm.models.backbones.bert_attention import BertSpec
from surge_mm.models.backbones.bert_layers import BertEmbeddings, BertEncoder, BertPooler
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Fraction, Positive, checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn

INPUTS = ('input_ids', 'token_type_ids', 'attention_mask')


class BertOutput(NamedTuple):
    """Output of :class:`SurgeBert`. The tuples are empty unless ``output_hidden_states=True``.

    Attributes:
        pooled (Tensor): Feature of each text, ``(B, hidden_size)``.
        hidden_states (tuple[Tensor, ...]): Embeddings, then the output of each layer, ``(B, L, hidden_size)``.
        queries (tuple[Tensor, ...]): Real queries of each layer, ``(B, heads, L, hidden_size / heads)``.
        keys (tuple[Tensor, ...]): Real keys of each layer, of the same shape.
        values (tuple[Tensor, ...]): Real values of each layer, of the same shape.
    """

    pooled: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    queries: tuple[Tensor, ...] = ()
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()


@MODELS.register_module()
class SurgeBert(StrictLoading, BaseModule):
    """Encoder of BERT whose attention projections, feed-forward layers and pooler are binary.

    The names of parameters are those of Hugging Face's ``BertModel``, and the names of the sizes those of its config.
    Embeddings of positions and segments and layer norms are real.

    Source: Devlin et al., BERT, arXiv 1810.04805.

    Args:
        vocab_size (int): Number of tokens of the vocabulary. Defaults to 30522.
        hidden_size (int): Number of features of a token. Defaults to 768.
        num_hidden_layers (int): Number of layers. Defaults to 12.
        num_attention_heads (int): Number of heads, a divisor of ``hidden_size``. Defaults to 12.
        intermediate_size (int): Number of features inside the feed-forward layers. Defaults to 3072.
        max_position_embeddings (int): Largest number of tokens of a text. Defaults to 512.
        type_vocab_size (int): Number of segments of a text. Defaults to 2.
        hidden_dropout_prob (float): Dropout of the embeddings and of the outputs of the layers. Defaults to 0.1.
        attention_probs_dropout_prob (float): Dropout of the attention probabilities. Defaults to 0.1.
        layer_norm_eps (float): Added to the variance by the layer norms. Defaults to 1e-12.
        activation (str): Function between the feed-forward layers, ``'gelu'`` or ``'relu'``. Defaults to 'gelu'.
        pooling (str): Feature of a text: ``'cls'`` for BERT's pooler, ``tanh(dense(x))`` of the first token;
            ``'mean'`` for the mean of the last hidden states, without padding and without a pooler. Defaults to 'cls'.
        attention (str): Matrix products of the attention: ``'real'``; ``'bi'`` for BiBERT's, with signs and without
            softmax; ``'elastic'`` for BiT's, with learned scales. :mod:`surge_mm.models.backbones.bert_attention` has
            the formulas. Defaults to 'real'.
        attention_bits (int): Bits of the elastic binarizers of the attention, 1 or, for training alone, 2. Defaults to
            1.
        linear_cfg (dict, optional): Linear layers. None builds the full-precision encoder. With the type
            ``'surge_mm.SurgeConv2d'``, which the methods of configs have, they are ``'surge_mm.SurgeLinear'`` with the
            same settings. Defaults to ``dict(type='surge_mm.SurgeLinear')``.
        ffn_activation (dict, optional): Activation binarizer of the second feed-forward layers, which follow
            ``activation``, such as ``dict(type='ElasticBinary')`` after ReLU. Defaults to None: that of ``linear_cfg``.
        embedding_weight (dict, optional): Weight binarizer of the embeddings of the tokens, such as
            ``dict(type='BiBERT')``; its filters are the rows. Defaults to None: real embeddings.
        init_cfg (dict or list[dict], optional): MMEngine's weight initialization, or
            :class:`surge_mm.models.hugging_face_init.HuggingFaceInit`. None selects BERT's: normal with the standard
            deviation 0.02. Defaults to None.

    Attributes:
        config (dict): Sizes and settings that a checkpoint must have too, under Hugging Face's names.

    Raises:
        UsageError: if an argument is out of range, the heads do not divide the hidden size, or an argument has no
            effect together with the others. On loading a state dict: if it is that of an encoder of another size.
    """

    inner = r'(embeddings|encoder)\..*\.(weight|bias)'  # the pooler may be missing
    part = 'bert.'
    sizes = 'the sizes (vocab_size, num_hidden_layers, ...)'

    @checked
    def __init__(
        self,
        vocab_size: Positive = 30522,
        hidden_size: Positive = 768,
        num_hidden_layers: Positive = 12,
        num_attention_heads: Positive = 12,
        intermediate_size: Positive = 3072,
        max_position_embeddings: Positive = 512,
        type_vocab_size: Positive = 2,
        hidden_dropout_prob: Fraction = 0.1,
        attention_probs_dropout_prob: Fraction = 0.1,
        layer_norm_eps: Fraction = 1e-12,
        activation: Literal['gelu', 'relu'] = 'gelu',
        pooling: Literal['cls', 'mean'] = 'cls',
        attention: Literal['real', 'bi', 'elastic'] = 'real',
        attention_bits: Literal[1, 2] = 1,
        linear_cfg: Cfg | None = {'type': 'surge_mm.SurgeLinear'},  # noqa: B006
        ffn_activation: Cfg | None = None,
        embedding_weight: Cfg | None = None,
        init_cfg: Cfg | list[Cfg] | None = None,
    ) -> None:
        if hidden_size % num_attention_heads:
            raise UsageError(
                f'SurgeBert: num_attention_heads={num_attention_heads} must divide hidden_size={hidden_size}'
            )
        if attention_bits != 1 and attention != 'elastic':
            raise UsageError(
                f"SurgeBert: attention_bits={attention_bits} is for attention='elastic', got attention={attention!r}"
            )
        if ffn_activation is not None and linear_cfg is None:
            raise UsageError(
                f'SurgeBert: ffn_activation={ffn_activation!r} is for binary layers, and linear_cfg=None builds real '
                'ones. Leave one of them out'
            )
        if init_cfg is None:
            init_cfg = {'type': 'Normal', 'layer': ['Linear', 'Embedding'], 'std': 0.02}
        super().__init__(init_cfg)
        spec = BertSpec(
            hidden_size,
            num_attention_heads,
            intermediate_size,
            hidden_dropout_prob,
            attention_probs_dropout_prob,
            layer_norm_eps,
            activation,
            attention,
            attention_bits,
            linear_cfg,
            ffn_activation,
        )
        self.hidden_size = hidden_size
        self.config: dict[str, Any] = {
            'vocab_size': vocab_size,
            'hidden_size': hidden_size,
            'num_hidden_layers': num_hidden_layers,
            'num_attention_heads': num_attention_heads,
            'intermediate_size': intermediate_size,
            'max_position_embeddings': max_position_embeddings,
            'type_vocab_size': type_vocab_size,
            'layer_norm_eps': layer_norm_eps,
            'hidden_act': activation,
        }
        self.embeddings = BertEmbeddings(
            vocab_size, max_position_embeddings, type_vocab_size, spec, embedding_weight
        )
        self.encoder = BertEncoder(num_hidden_layers, spec)
        self.pooler = BertPooler(spec) if pooling == 'cls' else None
        first: Any = self.encoder.layer[0]
        second = first.output.dense
        if (
            activation == 'relu'
            and isinstance(second, BinaryLayer)
            and not second.learns_activation
        ):
            warn(
                "SurgeBert: the output of activation='relu' is never negative, so all signs of "
                f'{second.activation}, the activation binarizer of the second feed-forward layers, are +1. Set '
                "ffn_activation=dict(type='ElasticBinary')"
            )

    def forward(self, inputs: dict[str, Tensor], output_hidden_states: bool = False) -> BertOutput:
        """Encode a batch of texts.

        Args:
            inputs (dict[str, Tensor]): ``input_ids``, ``token_type_ids`` and ``attention_mask``, each int64,
                ``(B, L)``, as Hugging Face's tokenizers return them.
            output_hidden_states (bool): Whether the output has the hidden states, queries, keys and values.
                Defaults to False.

        Raises:
            UsageError: if an input is missing, or a text has more tokens than there are positions.
        """
        missing = [name for name in INPUTS if name not in inputs]
        if missing:
            raise UsageError(
                f'the inputs of SurgeBert lack {", ".join(missing)}; they have {", ".join(inputs) or "none"}. The data '
                'preprocessor surge_mm.TextDataPreprocessor makes attention_mask, 1 for tokens and 0 for padding; '
                'token_type_ids of a single sentence are 0'
            )
        ids, attention_mask = inputs['input_ids'], inputs['attention_mask'].bool()
        positions = self.config['max_position_embeddings']
        if ids.shape[1] > positions:
            raise UsageError(
                f'a text of {ids.shape[1]} tokens is longer than max_position_embeddings={positions} of SurgeBert. '
                'Truncate it: set the max_length of the data set'
            )
        x = self.embeddings(ids, inputs['token_type_ids'])
        states, projections = self.encoder(x, attention_mask[:, None, None, :])
        pooled = self._pool(states[-1], attention_mask)
        if not output_hidden_states:
            return BertOutput(pooled)
        queries, keys, values = zip(*projections, strict=True)
        return BertOutput(pooled, tuple(states), queries, keys, values)

    def _pool(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.pooler is not None:
            return self.pooler(x)
        weights = mask.unsqueeze(-1).to(x.dtype)
        return (x * weights).sum(dim=1) / weights.sum(dim=1)
