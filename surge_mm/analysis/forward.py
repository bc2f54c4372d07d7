"""A model's network upon one image, whichever host it is of: no decoding of boxes, no losses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def forward_of(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """What runs the network of ``model`` on ``image``, ``(1, 3, H, W)``.

    A two-stage detector runs with the proposals that its RPN makes of the image, and decodes those.

    Args:
        model (nn.Module): A detector of MMDetection, a classifier of MMPretrain, or any module of images.
        image (Tensor): The image.
    """
    from mmdet.models import BaseDetector
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    from mmpretrain.models import BaseClassifier

    if isinstance(model, BaseClassifier):
        return partial(model, image, mode='tensor')
    if not isinstance(model, BaseDetector):
        return partial(model, image)
    empty = InstanceData(
        bboxes=image.new_zeros(0, 4), labels=torch.zeros(0, dtype=torch.long, device=image.device)
    )
    size = tuple(image.shape[-2:])
    metainfo = {
        'img_shape': size,
        'ori_shape': size,
        'pad_shape': size,
        'batch_input_shape': size,
        'scale_factor': (1.0, 1.0),
        'img_id': 0,
    }
    return partial(
        model, image, [DetDataSample(metainfo=metainfo, gt_instances=empty)], mode='tensor'
    )
