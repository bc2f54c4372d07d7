"""Boxes from the maps of a one-stage detector, for one image, in the arithmetic of the host and with less around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SPLIT = 10000
"""Boxes from which ``batched_nms`` of mmcv treats each class by itself."""


class BoxDecoder:
    """Decode boxes as ``BaseDenseHead`` of MMDetection does.

    Of each level, the scores above ``score_thr`` of the config are candidates, and the best ``nms_pre`` of them are
    decoded; then non-maximum suppression selects. All operators and their order are those of
    ``BaseDenseHead.predict_by_feat``, so boxes and scores are equal to the bit, unless scores of a level are equal:
    those keep their order here. What is left out are copies of the config, data samples, and the priors, which are made
    once for each size.

    Args:
        head (nn.Module): ``bbox_head`` of a detector that :meth:`of` accepts. Its ``test_cfg`` is read once.
    """

    def __init__(self, head: Any) -> None:
        cfg = head.test_cfg
        self.head = head
        self.score_thr = cfg.get('score_thr', 0)
        self.nms_pre = cfg.get('nms_pre', -1)
        self.min_size = cfg.get('min_bbox_size', -1)
        self.max_boxes = cfg.max_per_img
        self.nms = cfg.nms.to_dict()
        self.is_plain_nms = self.nms.get('type', 'nms') == 'nms' and set(self.nms) <= {
            'type',
            'iou_threshold',
        }

    @classmethod
    def of(cls, model: Any) -> BoxDecoder | None:
        """Return the decoder of a detector, or None if the host decodes its boxes in another way.

        Args:
            model (nn.Module): Detector of MMDetection.
        """
        from mmdet.models import SingleStageDetector
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

        head = getattr(model, 'bbox_head', None)
        steps = 'predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process'
        is_plain = (
            isinstance(model, SingleStageDetector)
            and type(model).predict is SingleStageDetector.predict
            and isinstance(head, BaseDenseHead)
            and all(getattr(type(head), step) is getattr(BaseDenseHead, step) for step in steps)
            and not getattr(head.loss_cls, 'custom_cls_channels', False)
            and not getattr(head.prior_generator, 'use_box_type', False)
            and not getattr(head.bbox_coder, 'use_box_type', False)
            and bool(head.test_cfg)
            and bool(head.test_cfg.get('nms'))
            and 'max_per_img' in head.test_cfg
        )
        return cls(head) if is_plain else None

    def decode(
        self,
        maps: Sequence[Sequence[Tensor]],
        shape: tuple[int, int],
        scale: tuple[float, float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(n, 4)``, scores ``(n,)`` and labels ``(n,)`` of an image, in the pixels of the original.

        Args:
            maps (Sequence[Sequence[Tensor]]): Output of the head: class scores, boxes and, of some heads, factors of
                the scores, each a tensor ``(1, C, H, W)`` a level.
            shape (tuple[int, int]): Height and width of the image in the network, to which boxes are clipped.
            scale (tuple[float, float]): Width and height of this image by those of the original.
        """
        first = maps[0][0]
        sizes = [level.shape[2:] for level in maps[0]]
        priors_of = self.head.prior_generator.grid_priors
        priors = priors_of(sizes, dtype=first.dtype, device=first.device)
        levels = zip(priors, *maps, strict=True)
        parts = [self._candidates(*level) for level in levels]
        parts = [part for part in parts if len(part[0])] or parts[:1]
        scores, labels, deltas, anchors, *factors = map(torch.cat, zip(*parts, strict=True))
        boxes = self.head.bbox_coder.decode(anchors, deltas, max_shape=shape)
        boxes = boxes * boxes.new_tensor([1 / s for s in scale] * 2)
        if factors:
            scores = scores * factors[0]
        if self.min_size >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > self.min_size).all(1)
            if not large.all():
                boxes, scores, labels = boxes[large], scores[large], labels[large]
        if len(boxes):
            boxes, scores, labels = self.suppress(boxes, scores, labels)
        return boxes, scores, labels

    def _candidates(
        self, priors: Tensor, scores: Tensor, deltas: Tensor, *factors: Tensor
    ) -> tuple[Tensor, ...]:
        """Return scores, labels, encoded boxes, priors and any score factors of the candidates of a level."""
        head = self.head
        scores = scores[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[:, :-1]
        places, labels = (scores > self.score_thr).nonzero().unbind(1)
        # equal scores keep their order, as in an exported C file: an unstable sort may choose others at the limit
        found, order = scores[places, labels].sort(descending=True, stable=True)
        # as in the host, a negative nms_pre leaves out the last ones
        count = min(self.nms_pre, len(order))
        found, order = found[:count], order[:count]
        places, labels = places.index_select(0, order), labels.index_select(0, order)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, head.bbox_coder.encode_size)
        factors = tuple(values[0].permute(1, 2, 0).reshape(-1).sigmoid() for values in factors)
        gathered = (values.index_select(0, places) for values in (deltas, priors, *factors))
        return found, labels, *gathered

    def suppress(
        self, boxes: Tensor, scores: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the boxes that non-maximum suppression of each class selects, the best first.

        Args:
            boxes (Tensor): ``(n, 4)``, with at least one box.
            scores (Tensor): ``(n,)``.
            labels (Tensor): ``(n,)``.
        """
        from mmcv.ops.nms import batched_nms, ext_module

        if not self.is_plain_nms or len(boxes) >= SPLIT:
            found, kept = batched_nms(boxes, scores, labels, self.nms)
            scores = found[: self.max_boxes, -1]
            kept = kept[: self.max_boxes]
            return boxes[kept], scores, labels[kept]
        # batched_nms of mmcv, which takes twice as long around the operator
        moved = boxes + (labels * (boxes.max() + 1))[:, None]
        kept = ext_module.nms(moved, scores, iou_threshold=self.nms['iou_threshold'], offset=0)
        kept = kept[: self.max_boxes]
        return boxes[kept], scores[kept], labels[kept]
