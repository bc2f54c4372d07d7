"""Losses that compare a detector with its teacher.

``_s`` denotes the student, ``_t`` the teacher, ``p`` class probabilities and ``z`` class logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses.iou_loss import giou_loss
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

from surge_mm.utils.dtypes import at_least_float32

EPS = 1e-6


@dataclass(frozen=True)
class Predictions:
    """Predictions of a head at P positions: anchors or points of all images, or regions of interest.

    Attributes:
        logits (Tensor): Class logits. ``(P, C)`` of a sigmoid, ``(P, C + 1)`` of a softmax with the background last.
        sigmoid (bool): Whether the probabilities are a sigmoid of the logits, else their softmax.
        priors (Tensor): Boxes or points, ``(P, 4)`` or ``(P, 2)``.
        deltas (Tensor, optional): Encoded boxes, ``(P, C, 4)``, or ``(P, 1, 4)`` if all classes share one. None if they
            cannot be decoded by ``bbox_coder``.
        bbox_coder (BaseBBoxCoder, optional): Decoder of the boxes.
    """

    logits: Tensor
    sigmoid: bool
    priors: Tensor
    deltas: Tensor | None
    bbox_coder: Any

    def scores(self) -> Tensor:
        """Return the probabilities of the classes without the background, ``(P, C)``."""
        logits = at_least_float32(self.logits)
        return logits.sigmoid() if self.sigmoid else logits.softmax(1)[:, :-1]

    def boxes(self, positions: Tensor, classes: Tensor) -> Tensor:
        """Decode boxes as x1, y1, x2, y2.

        Args:
            positions (Tensor): Indices of the positions, int64, ``(M,)``.
            classes (Tensor): The class at each of them, int64, ``(M,)``.

        Returns:
            Tensor: The boxes, ``(M, 4)``.
        """
        assert self.deltas is not None
        deltas = self.deltas[positions, classes if self.deltas.shape[1] > 1 else 0]
        boxes = self.bbox_coder.decode(self.priors[positions], at_least_float32(deltas))
        return get_box_tensor(boxes)


def feature_loss(features_s: Sequence[Tensor], features_t: Sequence[Tensor]) -> Tensor:
    """Return the loss of PKD on the outputs of the necks.

    It is summed over the levels. On each, the features are standardized per channel over (N, H, W)::

        1/2 mean((standardized(x_s) - standardized(x_t))^2),  standardized(x) = (x - mean(x)) / sqrt(var(x) + 1e-6)

    This is 1 - r, where r is the mean over the channels of the Pearson correlation of student and teacher.

    Source: Cao et al., PKD, arXiv 2207.02039, equations 3 and 4.

    Args:
        features_s (Sequence[Tensor]): Features of the student, ``(N, C, H, W)`` for each level.
        features_t (Sequence[Tensor]): Features of the teacher, of the same shapes.

    Returns:
        Tensor: The loss, a scalar.
    """
    losses = [
        F.mse_loss(_standardized(x_s), _standardized(x_t)) / 2
        for x_s, x_t in zip(features_s, features_t, strict=True)
    ]
    return torch.stack(losses).sum()


def class_loss(student: Predictions, teacher: Predictions, score_thr: float) -> Tensor:
    """Return the quality focal loss of the class logits, with the probabilities of the teacher as target.

    With the n positions where the teacher's best score exceeds ``score_thr``, it is::

        sum |p_s - p_t|^2 BCE(z_s, p_t) / max(n, 1)

    over positions and classes. For a softmax, the sum is over positions, ``CE(z_s, p_t)`` replaces the binary cross
    entropy, and the weight is half the squared distance of the distributions: with one class, both are equal.

    Source: Li et al., Generalized Focal Loss, arXiv 2006.04388, equation 4 (with beta = 2).

    Args:
        student (Predictions): Predictions of the student.
        teacher (Predictions): Predictions of the teacher at the same positions.
        score_thr (float): Score that the teacher exceeds at positions that count.

    Returns:
        Tensor: The loss, a scalar.
    """
    z_s, z_t = at_least_float32(student.logits), at_least_float32(teacher.logits)
    if student.sigmoid:
        p_s, p_t = z_s.sigmoid(), z_t.sigmoid()
        loss = (p_s - p_t) ** 2 * F.binary_cross_entropy_with_logits(z_s, p_t, reduction='none')
    else:
        p_s, p_t = z_s.softmax(1), z_t.softmax(1)
        weight = ((p_s - p_t) ** 2).sum(1) / 2
        loss = weight * F.cross_entropy(z_s, p_t, reduction='none')
    n = (teacher.scores() > score_thr).any(1).sum()
    return loss.sum() / n.clamp(min=1)


def box_loss(student: Predictions, teacher: Predictions, score_thr: float) -> Tensor:
    """Return the GIoU loss of the decoded boxes, with those of the teacher as target.

    Over the positions where the best score s of the teacher exceeds ``score_thr``, it is::

        sum s (1 - GIoU(box_s, box_t)) / max(sum s, 1)

    Where each class has its own box, it is that of the teacher's best class. Boxes of the teacher without area are no
    targets.

    Args:
        student (Predictions): Predictions of the student.
        teacher (Predictions): Predictions of the teacher at the same positions.
        score_thr (float): Score that the teacher exceeds at positions that count.

    Returns:
        Tensor: The loss, a scalar.
    """
    best, classes = teacher.scores().max(1)
    positions = (best > score_thr).nonzero().squeeze(1)
    weight, classes = best[positions], classes[positions]
    box_s, box_t = (one.boxes(positions, classes) for one in (student, teacher))
    has_area = (box_t[:, 2:] > box_t[:, :2]).all(1)
    weight, box_s, box_t = weight[has_area], box_s[has_area], box_t[has_area]
    if not len(weight):
        return box_s.sum()  # 0, with a gradient of 0
    return giou_loss(box_s, box_t, weight, reduction='sum') / weight.sum().clamp(min=1)


def _standardized(x: Tensor) -> Tensor:
    x = at_least_float32(x)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return (x - mean) * (var + EPS).rsqrt()
