"""A classifier that learns from a full-precision teacher, as binary networks on ImageNet do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Cfg, NotNegative, checked


@MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """MMPretrain's ImageClassifier, whose target is the teacher's distribution over the classes.

    ``L = mean over the batch of -sum_c p_teacher(c) log p_student(c)``, plus ``label_weight`` times the loss of the
    head on the labels. The teacher is in no checkpoint, gets no gradient and stays in evaluation mode.
    Source: Liu et al., ReActNet, arXiv 2003.03488, section 4.3 (with ``label_weight=0``).

    Args:
        teacher (dict): Config of a classifier with the same classes and the same input normalisation. Its ``init_cfg``
            says where its weights are.
        label_weight (float): Weight of the loss on the labels. Defaults to 0.
        **kwargs: Those of MMPretrain's ImageClassifier.

    Raises:
        ValueError: a negative ``label_weight``; a teacher with another number of classes, or without weights.
    """

    @checked
    def __init__(self, teacher: Cfg, label_weight: NotNegative = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        classes = teacher.get('head', {}).get('num_classes')
        if classes != self.head.num_classes:
            raise ValueError(
                f'teacher: its head has num_classes={classes!r}, that of the model {self.head.num_classes}'
            )
        if not teacher.get('init_cfg') and not teacher.get('pretrained'):
            raise ValueError(
                "teacher: no weights to teach with; give it init_cfg=dict(type='Pretrained', checkpoint=...)"
            )
        self.label_weight = label_weight
        built = MODELS.build({**teacher, '_scope_': 'mmpretrain'})
        built.requires_grad_(False).eval()
        # In a list, it is no submodule: not in state dicts, not in train(), not under DDP.
        self._teacher: list[nn.Module] = [built]

    @property
    def teacher(self) -> nn.Module:
        return self._teacher[0]

    def init_weights(self) -> None:
        super().init_weights()
        self.teacher.init_weights()  # type: ignore[operator]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DistilledClassifier:
        for teacher in self._teacher:  # none in a student that is stripped for inference
            teacher._apply(fn)
        return super()._apply(fn, recurse)

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """``loss_distill``, and what the head says if labels count.

        Args:
            inputs (Tensor): ``(N, C, H, W)``.
            data_samples (list): N samples with labels.
        """
        features = self.extract_feat(inputs)
        with torch.no_grad():
            target = self.teacher(inputs, mode='tensor').float().softmax(1)
        losses = {'loss_distill': F.cross_entropy(self.head(features).float(), target)}
        if self.label_weight:
            losses['loss_label'] = (
                self.label_weight * self.head.loss(features, data_samples)['loss']
            )
        return losses
