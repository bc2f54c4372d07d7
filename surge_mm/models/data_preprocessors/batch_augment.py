"""Random crop, flip and normalization of whole batches on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Count, Finite, Fraction, checked


def random_crop_flip(images: Tensor, padding: int, flip_prob: float) -> Tensor:
    """Pad each image with zeros, crop it to its original size at a random position, and flip it at random.

    The distribution is that of ``RandomCrop(padding=padding)`` followed by a horizontal ``RandomFlip``: the position is
    uniform over ``(2 padding + 1)^2`` values, independently for each image. Random numbers are drawn from the default
    generator of the device of ``images``.

    Args:
        images (Tensor): ``(N, C, H, W)``, any dtype.
        padding (int): Number of pixels added on each side.
        flip_prob (float): Probability of a horizontal flip.

    Returns:
        Tensor: ``(N, C, H, W)``, same dtype.
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
    """Data preprocessor for the batches of :class:`surge_mm.datasets.cifar.CIFAR10Tensor`, which are tensors.

    Args:
        mean (Sequence[float]): Mean of each channel, in the range 0 to 255.
        std (Sequence[float]): Standard deviation of each channel, in the same range.
        padding (int): See :func:`random_crop_flip`. Used in training only. Defaults to 4.
        flip_prob (float): See :func:`random_crop_flip`. Used in training only. Defaults to 0.5.
        batch_augments (None): Must be None. MMPretrain's ImageClassifier passes this argument.
        non_blocking (bool): Copy batches to the device asynchronously. Defaults to False.

    Raises:
        ValueError: if ``padding`` is negative, ``flip_prob`` is not in 0 to 1, a standard deviation is not positive, or
            ``batch_augments`` is not None.
    """

    @checked
    def __init__(
        self,
        mean: Sequence[Finite],
        std: Sequence[Finite],
        padding: Count = 4,
        flip_prob: Fraction = 0.5,
        batch_augments: Any = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if batch_augments is not None:
            raise ValueError(
                f'batch_augments={batch_augments!r} must be None: BatchAugmentPreprocessor only crops and flips. For '
                "mixup and similar augmentations, use MMPretrain's ClsDataPreprocessor with CIFAR10"
            )
        if not len(mean) == len(std) > 0 or min(std) <= 0:
            raise ValueError(f'std={std!r} must be positive, and as long as mean={mean!r}')
        self.padding, self.flip_prob = padding, flip_prob
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Copy a batch to the device, augment it in training, and normalize it.

        Args:
            data (dict): ``inputs`` (Tensor of uint8, ``(N, C, H, W)``) and, optionally, ``data_samples``.
            training (bool): Whether to augment. Defaults to False.

        Returns:
            dict: ``inputs`` (Tensor of float32, ``(N, C, H, W)``) and ``data_samples``.
        """
        inputs = self.cast_data(data['inputs'])
        if training:
            inputs = random_crop_flip(inputs, self.padding, self.flip_prob)
        inputs = inputs.float().sub_(self.mean).div_(self.std)
        return {'inputs': inputs, 'data_samples': data.get('data_samples')}
