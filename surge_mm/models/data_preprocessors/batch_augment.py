"""Random crop, flip and normalisation of whole batches on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Count, Finite, Share, checked


def random_crop_flip(images: Tensor, padding: int, flip_prob: float) -> Tensor:
    """Pad by zeros, crop back to the size at a random place, flip some; each image by a draw of its own.

    The corner of the crop is uniform over ``(2 padding + 1)^2`` places. It is what RandomCrop(padding=...) followed by
    a horizontal RandomFlip does image by image. Draws come from the generator of the images' device.

    Args:
        images (Tensor): ``(N, C, H, W)``, of any dtype.
        padding (int): Pixels of zeros on each side.
        flip_prob (float): How probable a horizontal flip is.

    Returns:
        Tensor: ``(N, C, H, W)``, of the same dtype.
    """
    count, _, height, width = images.shape
    device = images.device
    top, left = torch.randint(2 * padding + 1, (2, count), device=device)
    flip = torch.rand(count, 1, 1, 1, device=device) < flip_prob
    padded = F.pad(images, (padding, padding, padding, padding))
    crops = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, top, left, H, W), a view
    cropped = crops[torch.arange(count, device=device), :, top, left]
    return torch.where(flip, cropped.flip(3), cropped)


@MODELS.register_module()
class BatchAugmentPreprocessor(BaseDataPreprocessor):
    """Data preprocessor for :class:`surge_mm.datasets.cifar.CIFAR10Tensor`, whose batches are tensors already.

    Args:
        mean (Sequence[float]): Mean of each channel, on the scale 0 to 255.
        std (Sequence[float]): Standard deviation of each channel, likewise.
        padding (int): See :func:`random_crop_flip`; in training only. Defaults to 4.
        flip_prob (float): Likewise. Defaults to 0.5.
        batch_augments (None): MMPretrain's classifier passes it; there are none.
        non_blocking (bool): Copy batches to the device without waiting. Defaults to False.

    Raises:
        ValueError: a padding below 0, a probability outside of 0 to 1, a standard deviation that is not above 0.
    """

    @checked
    def __init__(
        self,
        mean: Sequence[Finite],
        std: Sequence[Finite],
        padding: Count = 4,
        flip_prob: Share = 0.5,
        batch_augments: Any = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if batch_augments is not None:
            raise ValueError(
                f'batch_augments={batch_augments!r}: BatchAugmentPreprocessor crops and flips only; for mixup and the '
                "like take MMPretrain's ClsDataPreprocessor and CIFAR10"
            )
        if not len(mean) == len(std) > 0 or min(std) <= 0:
            raise ValueError(f'std={std!r} must be above 0, and of the length of mean={mean!r}')
        self.padding, self.flip_prob = padding, flip_prob
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Augment if ``training``, and normalise ``data['inputs']``, ``(N, C, H, W)`` of uint8."""
        inputs = self.cast_data(data['inputs'])
        if training:
            inputs = random_crop_flip(inputs, self.padding, self.flip_prob)
        inputs = inputs.float().sub_(self.mean).div_(self.std)
        return {'inputs': inputs, 'data_samples': data.get('data_samples')}
