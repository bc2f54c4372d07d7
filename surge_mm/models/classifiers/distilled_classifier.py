"""Classifier trained by distillation from a full-precision teacher, as in ReActNet."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from surge_mm.models.teacher import Teacher
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, NonNegative, checked


@MODELS.register_module()
class DistilledClassifier(Teacher, ImageClassifier):
    """MMPretrain's ImageClassifier, trained to predict the class distribution of a teacher.

    The loss is the mean over the batch of::

        -sum_c p_teacher(c) log p_student(c) + label_weight * loss of the head on the labels

    The teacher is not part of the state dict, has no gradient, and stays in evaluation mode.

    Source: Liu et al., ReActNet, arXiv 2003.03488, section 4.3 (with ``label_weight=0``).

    Args:
        teacher (dict): Config of a classifier with the same classes and the same input normalization. It must have
            ``init_cfg`` or ``pretrained``, from which its weights are loaded.
        label_weight (float): Weight of the loss on the labels. Defaults to 0.
        **kwargs: Arguments of MMPretrain's ImageClassifier.

    Raises:
        ValueError: if ``label_weight`` is negative, or the teacher has another number of classes or no weights.
    """

    @checked
    def __init__(self, teacher: Cfg, label_weight: NonNegative = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        classes = teacher.get('head', {}).get('num_classes')
        if classes != self.head.num_classes:
            raise ValueError(
                f'teacher: num_classes={classes!r} of its head must be that of the model, {self.head.num_classes}'
            )
        if not teacher.get('init_cfg') and not teacher.get('pretrained'):
            raise ValueError(
                "teacher: it has no weights. Add init_cfg=dict(type='Pretrained', checkpoint=...) to its config"
            )
        self.label_weight = label_weight
        built = MODELS.build({**teacher, '_scope_': 'mmpretrain'})
        built.requires_grad_(False).eval()
        self._teacher = [built]

    @property
    def teacher(self) -> nn.Module:
        """The full-precision classifier."""
        return self._teacher[0]

    def init_weights(self) -> None:
        """Initialize the student, and load the weights of the teacher."""
        super().init_weights()
        self.teacher.init_weights()  # type: ignore[operator]

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            inputs (Tensor): Images, ``(N, C, H, W)``.
            data_samples (list[DataSample]): N samples with labels.

        Returns:
            dict[str, Tensor]: ``loss_distill``, and ``loss_label`` if ``label_weight`` is positive.
        """
        features = self.extract_feat(inputs)
        with torch.no_grad():
            target = self.teacher(inputs, mode='tensor').float().softmax(1)
        losses = {'loss_distill': F.cross_entropy(self.head(features).float(), target)}
        if self.label_weight > 0:
            losses['loss_label'] = (
                self.label_weight * self.head.loss(features, data_samples)['loss']
            )
        return losses
