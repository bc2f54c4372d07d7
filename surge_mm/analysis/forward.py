"""Run the network of a model on one image or text, without decoding of boxes and without losses, for either host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from surge_mm.utils.modules import vocabulary_size


def random_input(model: nn.Module, size: Sequence[int]) -> Any:
    """Return an image of noise, or a text of random tokens, for :func:`network_forward`.

    Args:
        model (nn.Module): the model.
        size (Sequence[int]): height and width of the image in pixels; or the number of tokens of the text alone.

    Returns:
        Tensor | dict[str, Tensor]: the image, (1, C, H, W), with the channels of the first convolution, or 3 without
        one; or the inputs of :class:`surge_mm.SurgeBert`, each (1, L).
    """
    weight = next(model.parameters())
    if len(size) == 2:
        # packed and int8 convolutions are no nn.Conv2d
        convolutions = (m for m in model.modules() if hasattr(m, 'kernel_size'))
        channels: Any = next((m.in_channels for m in convolutions if hasattr(m, 'in_channels')), 3)
        return torch.randn(1, channels, *size, device=weight.device, dtype=weight.dtype)
    encoder: Any = model.bert
    ids = torch.randint(vocabulary_size(encoder), (1, *size), device=weight.device)
    return {
        'input_ids': ids,
        'token_type_ids': torch.zeros_like(ids),
        'attention_mask': torch.ones_like(ids),
    }


def input_name(size: Sequence[int]) -> str:
    """Return the name of an input, such as ``'image of 224 x 224'``.

    Args:
        size (Sequence[int]): as for :func:`random_input`.
    """
    return f'text of {size[0]} tokens' if len(size) == 1 else f'image of {size[0]} x {size[1]}'


def network_forward(model: nn.Module, image: Any) -> Callable[[], Any]:
    """Return a function that runs the network of a model on an image or a text.

    A two-stage detector runs with the proposals that its RPN predicts for the image, and decodes those.

    Args:
        model (nn.Module): a detector of MMDetection, a classifier of MMPretrain, a :class:`surge_mm.TextClassifier`, or
            any module that takes images.
        image (Tensor | dict[str, Tensor]): the image, shape (1, C, H, W), or the text, as :func:`random_input` returns
            it.

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
        bboxes=torch.zeros(0, 4, dtype=image.dtype, device=image.device),
        labels=torch.zeros(0, dtype=torch.long, device=image.device),
    )
    size = tuple(image.shape[-2:])
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = {**dict.fromkeys(shapes, size), 'scale_factor': (1.0, 1.0), 'img_id': 0}
    sample = DetDataSample(metainfo=metainfo, gt_instances=no_objects)
    return partial(model, image, [sample], mode='tensor')
