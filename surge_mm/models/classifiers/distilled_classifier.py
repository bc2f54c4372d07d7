"""Classifier trained by distillation from a full-precision teacher, as in ReActNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsHead, ImageClassifier
from torch import Tensor, nn

from surge_mm.models.student import Student, check_images
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import NonNegative, checked
from surge_mm.utils.errors import UsageError


@MODELS.register_module()
class DistilledClassifier(Student, ImageClassifier):
    """MMPretrain's ImageClassifier, trained to predict the class distribution of a teacher.

    The loss is the mean over the batch of::

        -sum_c p_teacher(c) log p_student(c) + label_weight * loss of the head on the labels

    The teacher is loaded when the weights are initialized. It is not part of the state dict, has no gradient, and stays
    in evaluation mode.

    Source: Liu et al., ReActNet, arXiv 2003.03488, section 4.3 (with ``label_weight=0``).

    Args:
        teacher (dict): ``config`` and ``checkpoint`` of an ImageClassifier with the same classes and the same
            normalization of images.
        label_weight (float): Weight of the loss on the labels. Defaults to 0.
        **kwargs: Arguments of MMPretrain's ImageClassifier.

    Raises:
        UsageError: if ``label_weight`` is negative, or ``teacher`` does not have exactly its two keys. When it is
            loaded, if a file is missing or wrong, or the teacher has another number of classes or another
            normalization. In the first step, if its classes are not those of the training set.
    """

    @checked
    def __init__(
        self, teacher: Mapping[str, Any], label_weight: NonNegative = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._set_teacher('DistilledClassifier', teacher)
        self.label_weight = label_weight

    def _check_teacher(self, teacher: Any) -> None:
        require_classifier('teacher', teacher)
        check_images(self, teacher, _num_classes)

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs (Tensor): Images, ``(N, C, H, W)``.
            data_samples (list[DataSample]): N samples with labels.

        Returns:
            dict[str, Tensor]: ``loss_distill``, and ``loss_label`` if ``label_weight`` is positive.

        Raises:
            UsageError: if the classes of the teacher are not those of the training set.
        """
        teacher = self._load_teacher()
        self._check_training_set()
        features = self.extract_feat(inputs)
        with torch.no_grad():
            target = teacher(inputs, mode='tensor').float().softmax(1)
        losses = {'loss_distill': F.cross_entropy(self.head(features).float(), target)}
        if self.label_weight > 0:
            losses['loss_label'] = (
                self.label_weight * self.head.loss(features, data_samples)['loss']
            )
        return losses


def require_classifier(name: str, model: nn.Module) -> None:
    """Raise an error if a model is no ImageClassifier whose probabilities are the softmax of its output.

    Args:
        name (str): What the model is, for the error message.
        model (nn.Module): The model.

    Raises:
        UsageError: if it is none.
    """
    if not isinstance(model, ImageClassifier):
        raise UsageError(f'{name}: {type(model).__name__} must be an ImageClassifier of MMPretrain')
    head = type(model.head)
    if getattr(head, 'predict', None) is not ClsHead.predict:
        raise UsageError(
            f'{name}: the probabilities of its head, {head.__name__}, are not the softmax of one output, such as those '
            'of a LinearClsHead'
        )


def _num_classes(model: Any) -> int | None:
    return getattr(getattr(model, 'head', None), 'num_classes', None)
