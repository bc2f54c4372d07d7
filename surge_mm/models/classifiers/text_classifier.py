"""Classifier of texts and of pairs of texts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from surge_mm.layers.learned_activation import leave_out_padding
from surge_mm.models.backbones.surge_bert import BertOutput
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, Fraction, Positive, checked
from surge_mm.utils.errors import UsageError

CONTRACT = (
    'An encoder has hidden_size, and its forward(inputs) returns an object with pooled, (B, hidden_size), such as '
    'surge_mm.models.backbones.surge_bert.BertOutput'
)


@MODELS.register_module()
class TextClassifier(BaseModel):
    """Encoder with a real linear layer for classes, or for one number.

    The names of parameters are those of Hugging Face's ``BertForSequenceClassification``: the encoder is ``bert``, and
    the linear layer ``classifier``. The loss is the cross entropy, or with ``num_classes=1`` the mean squared error.

    Args:
        backbone (dict): Config of :class:`surge_mm.SurgeBert`, or of another encoder: a module with the attribute
            ``hidden_size``, whose ``forward(inputs)`` returns an object with ``pooled``, ``(B, hidden_size)``. The
            losses of a distillation on hidden states need ``forward(inputs, output_hidden_states=True)`` and
            ``hidden_states``, as :class:`.BertOutput` has them.
        num_classes (int): Number of classes. 1 for the regression of a number.
        dropout (float): Dropout of the input of the linear layer. Defaults to 0.1.
        data_preprocessor (dict, optional): Config of the data preprocessor. Defaults to None.
        init_cfg (dict or list[dict], optional): MMEngine's weight initialization, or
            :class:`surge_mm.models.hugging_face_init.HuggingFaceInit`. None selects BERT's for the classifier: normal
            with the standard deviation 0.02. Defaults to None.

    Raises:
        UsageError: if the encoder has no ``hidden_size``, or its output no ``pooled``.
    """

    takes_texts = True

    @checked
    def __init__(
        self,
        backbone: Cfg,
        num_classes: Positive,
        dropout: Fraction = 0.1,
        data_preprocessor: Cfg | None = None,
        init_cfg: Cfg | list[Cfg] | None = None,
    ) -> None:
        if init_cfg is None:
            classifier = {'type': 'Normal', 'name': 'classifier', 'std': 0.02}
            init_cfg = {'type': 'Normal', 'std': 0.02, 'override': classifier}
        super().__init__(data_preprocessor, init_cfg)
        self.bert = MODELS.build(backbone)
        if not hasattr(self.bert, 'hidden_size'):
            raise UsageError(
                f'backbone: {type(self.bert).__name__} has no attribute hidden_size, the number of features of a text. '
                f'{CONTRACT}'
            )
        self.dropout = nn.Dropout(dropout)
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.bert.hidden_size, num_classes)

    def init_weights(self) -> None:
        """Initialize the encoder by its ``init_cfg``, then the whole model by its own."""
        if hasattr(self.bert, 'init_weights'):
            self.bert.init_weights()  # MMEngine would do it last, and undo a start of the whole model
        super().init_weights()

    @property
    def backbone(self) -> nn.Module:
        """The encoder, ``bert``."""
        return self.bert

    def encode(self, inputs: dict[str, Tensor], states: bool = False) -> BertOutput:
        """Return the output of the encoder.

        Args:
            inputs (dict[str, Tensor]): As for :meth:`forward`.
            states (bool): Whether it has the hidden states, queries, keys and values. Defaults to False.

        Raises:
            UsageError: if the output has no ``pooled``.
        """
        if self.training and 'attention_mask' in inputs and not torch.compiler.is_compiling():
            leave_out_padding(self.bert, inputs['attention_mask'].bool())
        output = self.bert(inputs, output_hidden_states=True) if states else self.bert(inputs)
        if not hasattr(output, 'pooled'):
            raise UsageError(
                f'backbone: the output of {type(self.bert).__name__}, {type(output).__name__}, has no pooled, the '
                f'features of the texts. {CONTRACT}'
            )
        return output

    def logits(self, pooled: Tensor) -> Tensor:
        """Return the logits of the features of texts.

        Args:
            pooled (Tensor): ``(B, hidden_size)``.

        Returns:
            Tensor: ``(B, num_classes)``.
        """
        return self.classifier(self.dropout(pooled))

    def forward(
        self,
        inputs: dict[str, Tensor],
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Return the logits, the losses or the predictions of a batch.

        Args:
            inputs (dict[str, Tensor]): As for :class:`surge_mm.SurgeBert`.
            data_samples (list[DataSample], optional): B samples, with ``gt_label`` or, with ``num_classes=1``,
                ``gt_score`` for the loss. Defaults to None.
            mode (str): ``'tensor'`` for the logits, ``(B, num_classes)``; ``'loss'`` for a dict with ``loss``;
                ``'predict'`` for samples with ``pred_score``, and ``pred_label`` if there are classes. Defaults to
                'tensor'.

        Raises:
            UsageError: if ``mode`` is another one, or a label is missing.
        """
        if mode not in ('tensor', 'loss', 'predict'):
            raise UsageError(f"mode={mode!r} must be 'tensor', 'loss' or 'predict'")
        if mode == 'loss':
            return self.loss(inputs, data_samples or [])
        logits = self.logits(self.encode(inputs).pooled)
        return logits if mode == 'tensor' else self._predictions(logits, data_samples)

    def loss(self, inputs: dict[str, Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute the loss of a batch.

        Args:
            inputs (dict[str, Tensor]): As for :meth:`forward`.
            data_samples (list[DataSample]): As for :meth:`forward`.

        Returns:
            dict[str, Tensor]: ``loss``.
        """
        return self.label_loss(self.logits(self.encode(inputs).pooled), data_samples)

    def label_loss(self, logits: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Return the loss of logits on the labels.

        Args:
            logits (Tensor): ``(B, num_classes)``.
            data_samples (list[DataSample]): As for :meth:`forward`.
        """
        name = 'gt_score' if self.num_classes == 1 else 'gt_label'
        if not data_samples or not all(name in sample for sample in data_samples):
            raise UsageError(
                f'TextClassifier: a sample has no {name}, which num_classes={self.num_classes} needs for the loss. '
                'num_classes must be 1 for a task whose labels are numbers, and the number of classes otherwise'
            )
        targets = torch.cat([sample.get(name) for sample in data_samples]).to(logits.device)
        if self.num_classes == 1:
            return {'loss': F.mse_loss(logits.float().squeeze(1), targets.float())}
        return {'loss': F.cross_entropy(logits.float(), targets)}

    def _predictions(
        self, logits: Tensor, data_samples: list[DataSample] | None
    ) -> list[DataSample]:
        samples = data_samples if data_samples is not None else [DataSample() for _ in logits]
        regresses = self.num_classes == 1
        scores = logits.float() if regresses else logits.float().softmax(dim=1)
        for sample, score in zip(samples, scores, strict=True):
            sample.set_pred_score(score)
            if not regresses:
                sample.set_pred_label(score.argmax().detach())
        return samples
