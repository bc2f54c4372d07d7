"""Non-maximum suppression of axis-aligned boxes, as in ``mmcv._ext``.

The three operators use the overlap of two boxes (x1, y1, x2, y2)::

    w = max(0, min(x2, x2') - max(x1, x1') + offset)        (h likewise)
    IoU = w h / (area + area' - w h),    area = (x2 - x1 + offset)(y2 - y1 + offset)

``offset = 1`` is the convention of MMDetection before 2.0, where a box includes its last pixel. Boxes are visited in
the order of decreasing scores. A box that overlaps a kept one is dropped by ``nms``, assigned to the kept one by
``nms_match``, and gets a lower score by ``softnms``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from surge_mm.compat.mmcv_ops import torchvision_operators


def _overlaps(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """Return the IoU of one box with others: (4,), (N, 4) -> (N,)."""
    x1, y1, x2, y2 = others.unbind(1)
    area = (box[2] - box[0] + offset) * (box[3] - box[1] + offset)
    areas = (x2 - x1 + offset) * (y2 - y1 + offset)
    w = (torch.minimum(box[2], x2) - torch.maximum(box[0], x1) + offset).clamp(min=0)
    h = (torch.minimum(box[3], y2) - torch.maximum(box[1], y1) + offset).clamp(min=0)
    inter = w * h
    return inter / (area + areas - inter)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Select the boxes that no kept box of a higher score overlaps by more than a threshold.

    Args:
        boxes (Tensor): shape (N, 4).
        scores (Tensor): shape (N,).
        iou_threshold (float): largest overlap of two kept boxes.
        offset (int): see the module.

    Returns:
        Tensor: indices of the selected boxes in the order of decreasing scores, shape (K,), int64.
    """
    if offset == 0:
        return torchvision_operators().nms(boxes, scores, iou_threshold)
    groups = _groups(boxes, scores, lambda box, rest: _overlaps(box, rest, offset) > iou_threshold)
    kept = [group[0] for group in groups]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group detections: each kept one with those that it suppresses.

    Unlike in :func:`nms`, an overlap equal to the threshold suppresses.

    Args:
        dets (Tensor): boxes and, in the last column, scores, shape (N, 5).
        iou_threshold (float): smallest overlap that suppresses.

    Returns:
        list[list[int]]: the indices of each group in the order of decreasing scores.
    """
    boxes, scores = dets[:, :4], dets[:, 4]
    return _groups(boxes, scores, lambda box, rest: _overlaps(box, rest, 0) >= iou_threshold)


def _groups(
    boxes: Tensor, scores: Tensor, suppressed: Callable[[Tensor, Tensor], Tensor]
) -> list[list[int]]:
    """Return the index of each kept box with those of the boxes that it suppresses, by decreasing scores."""
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    free = torch.ones_like(order, dtype=torch.bool)
    groups = []
    for i in range(len(order)):
        if free[i]:
            matched = free[i + 1 :] & suppressed(boxes[i], boxes[i + 1 :])
            free[i + 1 :] &= ~matched
            groups.append([int(order[i]), *order[i + 1 :][matched].tolist()])
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Select boxes in the order of decreasing scores, and lower the scores of those that overlap a selected one.

    The factor of a box with overlap IoU depends on ``method``::

        0 naive     0 if IoU >= iou_threshold else 1
        1 linear    1 - IoU if IoU >= iou_threshold else 1
        2 gaussian  exp(-IoU^2 / sigma)

    A box whose score falls below ``min_score`` is dropped. Of boxes with equal scores, the first is selected first.

    Args:
        boxes (Tensor): shape (N, 4).
        scores (Tensor): shape (N,).
        dets (Tensor): shape (N, 5). The first K rows are filled with the selected boxes and their scores.
        iou_threshold, sigma, min_score (float): see above.
        method (int): 0, 1 or 2.
        offset (int): see the module.

    Returns:
        Tensor: indices of the selected boxes, shape (K,), int64.

    Source: N. Bodla et al., "Soft-NMS: improving object detection with one line of code", 2017.
    """
    left = torch.arange(len(scores), device=scores.device)
    taken: list[int] = []
    while len(left):
        best = int(scores.argmax())
        box = boxes[best]
        dets[len(taken), :4] = box
        dets[len(taken), 4] = scores[best]
        taken.append(int(left[best]))

        iou = _overlaps(box, boxes, offset)
        if method == 2:
            factor = torch.exp(-(iou * iou) / sigma)
        else:
            decayed = 1 - iou if method == 1 else torch.zeros_like(iou)
            factor = torch.where(iou >= iou_threshold, decayed, torch.ones_like(iou))
        scores = scores * factor
        stays = ~(scores < min_score)
        stays[best] = False
        left, boxes, scores = left[stays], boxes[stays], scores[stays]
    return torch.tensor(taken, dtype=torch.long, device=dets.device)
