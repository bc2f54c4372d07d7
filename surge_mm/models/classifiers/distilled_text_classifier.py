"""Text classifier trained by distillation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from surge_mm.models.backbones.surge_bert import BertOutput
from surge_mm.models.classifiers.text_classifier import TextClassifier
from surge_mm.models.classifiers.text_distillation_losses import (
    direction_loss,
    hidden_loss,
    logit_loss,
    relation_loss,
)
from surge_mm.models.student import Student, check_equal
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import NonNegative, checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import encoder_sizes, vocabulary_size

HIDDEN = {'mse': hidden_loss, 'direction': direction_loss}
ADVICE = 'To compare the logits alone, set hidden_weight=0 and relation_weight=0'


@MODELS.register_module()
class DistilledTextClassifier(Student, TextClassifier):
    """Text classifier, trained to predict the class distribution and the hidden states of a teacher.

    The losses, each multiplied by its weight:

    - ``loss_distill``: :func:`.logit_loss` of the logits.
    - ``loss_distill_hidden``: :func:`.hidden_loss` or :func:`.direction_loss` of the embeddings and the outputs of all
      layers.
    - ``loss_distill_relations``: :func:`.relation_loss` of queries, keys and values of all layers.
    - ``loss_label``: the loss on the labels.

    The losses of BiT are the defaults; those of BiBERT are ``hidden='direction'``, ``relation_weight=1`` and
    ``label_weight=0.5``. Several steps, each with the result of the step before as start and teacher, are several
    configs with ``init='teacher'``.

    The teacher is loaded when the weights are initialized. It is not part of the state dict, has no gradient, and stays
    in evaluation mode.

    Args:
        teacher (dict): ``config`` and ``checkpoint`` of a text classifier with the same labels and vocabulary and,
            unless only logits are compared, the same number and size of layers. ``checkpoint`` may be a folder of
            Hugging Face, that of a fine-tuned ``BertForSequenceClassification``.
        hidden (str): How hidden states are compared, ``'mse'`` as in BiT or ``'direction'`` as in BiBERT. Defaults to
            'mse'.
        hidden_weight (float): Weight of ``loss_distill_hidden``. 0 leaves it out. Defaults to 1.
        relation_weight (float): Weight of ``loss_distill_relations``. 0 leaves it out. Defaults to 0.
        label_weight (float): Weight of ``loss_label``. 0 leaves it out. Defaults to 0.
        init (str, optional): ``'teacher'`` to initialize the student by the tensors of the teacher that have the same
            name and shape. Defaults to None: by its own ``init_cfg``.
        **kwargs: Arguments of :class:`surge_mm.TextClassifier`.

    Raises:
        UsageError: if ``teacher`` does not have exactly its two keys. When it is loaded, if a file is missing or wrong,
            or the teacher has another number of classes, size of the vocabulary, or layers. In the first step, if its
            task, classes or vocabulary are not those of the training set.
    """

    @checked
    def __init__(
        self,
        teacher: Mapping[str, Any],
        hidden: Literal['mse', 'direction'] = 'mse',
        hidden_weight: NonNegative = 1.0,
        relation_weight: NonNegative = 0.0,
        label_weight: NonNegative = 0.0,
        init: Literal['teacher'] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_teacher('DistilledTextClassifier', teacher, init)
        self.hidden, self.hidden_weight = hidden, hidden_weight
        self.relation_weight, self.label_weight = relation_weight, label_weight

    @property
    def _compares_states(self) -> bool:
        return self.hidden_weight + self.relation_weight > 0

    def _check_teacher(self, teacher: nn.Module) -> None:
        if not isinstance(teacher, TextClassifier):
            raise UsageError(
                f'teacher: {type(teacher).__name__} must be a surge_mm.TextClassifier, whose hidden states are compared'
            )
        _check_sizes(self, teacher, self._compares_states)

    def loss(self, inputs: dict[str, Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs (dict[str, Tensor]): ``input_ids``, ``token_type_ids`` and ``attention_mask``, ``(B, L)``.
            data_samples (list[DataSample]): B samples; labels are needed if ``label_weight`` is positive.

        Returns:
            dict[str, Tensor]: The losses by name.

        Raises:
            UsageError: if task, classes or vocabulary of the teacher are not those of the training set.
        """
        teacher = self._load_teacher()
        self._check_training_set(('task', 'classes', 'vocabulary', 'lowercase'))
        _check_order_of_labels(self._trained_on)
        states = self._compares_states
        own = self.encode(inputs, states)
        logits = self.logits(own.pooled)
        with torch.no_grad():
            theirs = teacher.encode(inputs, states)
            target = teacher.logits(theirs.pooled)
        _check_states(own, theirs, self.hidden_weight, self.relation_weight)
        mask = inputs['attention_mask'].bool()
        losses = {'loss_distill': logit_loss(logits, target)}
        if self.hidden_weight:
            loss = HIDDEN[self.hidden](own.hidden_states, theirs.hidden_states, mask)
            losses['loss_distill_hidden'] = self.hidden_weight * loss
        if self.relation_weight:
            loss = relation_loss(_projections(own), _projections(theirs), mask)
            losses['loss_distill_relations'] = self.relation_weight * loss
        if self.label_weight:
            loss = self.label_loss(logits, data_samples)['loss']
            losses['loss_label'] = self.label_weight * loss
        return losses


def _projections(output: BertOutput) -> list[Tensor]:
    return [*output.queries, *output.keys, *output.values]


def _check_sizes(student: Any, teacher: Any, states: bool) -> None:
    """Check that classes, vocabularies and, if hidden states are compared, layers have the same sizes."""
    both = (student, teacher)
    logits = (
        {'num_classes': model.num_classes, 'vocab_size': vocabulary_size(model.bert)}
        for model in both
    )
    check_equal(*logits, advice='Use a teacher of the same task and vocabulary')
    if states:
        layers = [encoder_sizes(model.bert).get('num_hidden_layers') for model in both]
        if None not in layers:  # else the states of the first batch are compared
            check_equal(*({'number of layers': count} for count in layers), advice=ADVICE)
        check_equal(*({'hidden_size': m.bert.hidden_size} for m in both), advice=ADVICE)


def _check_states(
    own: BertOutput, theirs: BertOutput, hidden_weight: float, relation_weight: float
) -> None:
    """Check that both encoders return what is compared, with the same number of layers."""
    for weight, name in ((hidden_weight, 'hidden_states'), (relation_weight, 'queries')):
        counts = [len(getattr(output, name, ())) for output in (own, theirs)]
        if weight and (0 in counts or counts[0] != counts[1]):
            raise UsageError(
                f'with output_hidden_states=True, the output of the encoder of the model has {counts[0]} {name}, and '
                f'that of the teacher {counts[1]}: both need the same number, at least 1. {ADVICE}'
            )


def _check_order_of_labels(theirs: Mapping[str, Any]) -> None:
    own = MessageHub.get_current_instance().get_info('dataset_meta') or {}
    classes = list(own.get('classes') or ())
    labels = [str(name).lower() for _, name in sorted(theirs.get('labels', {}).items())]
    if labels != classes and sorted(labels) == sorted(classes):
        raise UsageError(
            f'teacher: the labels of its folder are {labels}, the classes of the training set {classes}. Bring the '
            'rows of classifier.weight and classifier.bias, and id2label of its config.json, into this order'
        )
