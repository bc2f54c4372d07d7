"""Run the network of a model on one image, without decoding of boxes and without losses, for either host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def network_forward(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """Return a function that runs the network of a model on an image.

    A two-stage detector runs with the proposals that its RPN predicts for the image, and decodes those.

    Args:
        model (nn.Module): a detector of MMDetection, a classifier of MMPretrain, or any module that takes images.
        image (Tensor): the image, shape (1, 3, H, W).

    Returns:
        Callable: a function without arguments that returns the raw outputs of the network.
    """
    from mmdet.models import BaseDetector
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    from mmpretrain.models import BaseClassifier

    if isinstance(model, BaseClassifier):
        return partial(model, image, mode='tensor')
    if not isinstance(model, BaseDetector):
        return partial(model, image)
    no_objects = InstanceData(
        bboxes=image.new_zeros(0, 4), labels=torch.zeros(0, dtype=torch.long, device=image.device)
    )
    size = tuple(image.shape[-2:])
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = {**dict.fromkeys(shapes, size), 'scale_factor': (1.0, 1.0), 'img_id': 0}
    sample = DetDataSample(metainfo=metainfo, gt_instances=no_objects)
    return partial(model, image, [sample], mode='tensor')
