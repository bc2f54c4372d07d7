"""An image in memory as the input of a detector of MMDetection: its test pipeline and its data preprocessor."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import default_scope

SIZES = ('Resize', 'FixScaleResize', 'Pad')
"""Steps that change the size alone. They run as the host's own, between reading and normalization."""
ARRAYS = 'mmdet.LoadImageFromNDArray'
WITHOUT_EFFECT = ('LoadAnnotations', 'PackDetInputs')
"""Steps that do not change the pixels of an image without annotations."""


class ImageInput:
    """Prepare images for a detector.

    Args:
        model (nn.Module): Detector of MMDetection with ``cfg``.

    Attributes:
        is_plain (bool): Whether an image can be passed without a data sample: the steps of the test pipeline are those
            above, and the data preprocessor is ``DetDataPreprocessor``. If not, :meth:`batch` runs the pipeline of the
            host, built once.
    """

    def __init__(self, model: Any) -> None:
        from mmcv.transforms import LoadImageFromFile
        from mmdet.models import DetDataPreprocessor
        from mmdet.utils import get_test_pipeline_cfg

        steps = copy.deepcopy(get_test_pipeline_cfg(model.cfg))
        in_memory = copy.deepcopy(steps)
        in_memory[0].type = ARRAYS  # as in inference_detector, which leaves it in the config
        if steps[0].type == ARRAYS:
            steps[0].type = 'LoadImageFromFile'
        with default_scope(model.cfg.default_scope):
            self.from_file, self.from_memory = Compose(steps), Compose(in_memory)
        loads, *others = self.from_file.transforms
        self.loads = loads
        self.sizes = [step for step in others if type(step).__name__ in SIZES]
        self.preprocessor = model.data_preprocessor
        self.is_plain = (
            type(loads) is LoadImageFromFile
            and (loads.to_float32, loads.color_type, loads.ignore_empty) == (False, 'color', False)
            and all(_is_known(step) for step in others)
            and type(self.preprocessor) is DetDataPreprocessor
        )
        if self.is_plain:
            self.table = normalization_table(self.preprocessor)
            self.channels_last = _is_channels_last(model)

    def read(self, path: str) -> np.ndarray:
        """Return the image of a file, (H, W, 3), uint8, BGR.

        Args:
            path (str): The file.

        Raises:
            DatasetError: if it is not there, or is no image.
        """
        return self.loads({'img_path': path})['img']

    def prepare(self, pixels: np.ndarray) -> tuple[Tensor, dict[str, Any]]:
        """Return the input of the network, (1, 3, H', W'), float32, and the sizes of the image.

        Args:
            pixels (np.ndarray): Shape (H, W, 3), uint8, BGR, contiguous.

        Raises:
            UsageError: if the pipeline reduces a side of the image to less than one pixel.
        """
        import cv2

        size = pixels.shape[:2]
        found: dict[str, Any] = {'img': pixels, 'img_shape': size, 'ori_shape': size}
        with resizable(size):
            for step in self.sizes:
                found = step(found)
        pixels = found['img']
        if self.preprocessor._channel_conversion:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        values = cv2.LUT(pixels, self.table)
        height, width = values.shape[:2]
        divisor = self.preprocessor.pad_size_divisor
        bottom, right = -height % divisor, -width % divisor
        if bottom or right:
            value = (self.preprocessor.pad_value,) * 3
            values = cv2.copyMakeBorder(
                values, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=value
            )
        inputs = torch.from_numpy(values).permute(2, 0, 1)[None]
        if not self.channels_last:
            inputs = inputs.contiguous()
        padded = tuple(inputs.shape[2:])
        meta = {key: found.get(key) for key in ('img_shape', 'ori_shape')}
        meta |= {'scale_factor': found.get('scale_factor', (1.0, 1.0))}
        meta |= {'pad_shape': padded, 'batch_input_shape': padded}
        return inputs.to(self.preprocessor.device), meta

    def sample(self, meta: dict[str, Any]) -> Any:
        """Return the data sample of MMDetection for an image.

        Args:
            meta (dict[str, Any]): Sizes of the image, as they are returned with the input of the network.
        """
        from mmdet.structures import DetDataSample

        return DetDataSample(metainfo={'img_id': 0, 'img_path': None, **meta})

    def batch(self, image: np.ndarray | str) -> dict[str, Any]:
        """Return the batch of an image by the pipeline of the host.

        Args:
            image (np.ndarray | str): Shape (H, W, 3), uint8, BGR, or a file.

        Raises:
            UsageError: if the pipeline reduces a side of the image to less than one pixel.
        """
        if isinstance(image, str):
            with resizable(image):
                return pseudo_collate([self.from_file({'img_path': image, 'img_id': 0})])
        with resizable(image.shape[:2]):
            return pseudo_collate([self.from_memory({'img': image, 'img_id': 0})])


@contextmanager
def resizable(image: str | tuple[int, ...]) -> Iterator[None]:
    """Run a test pipeline, and say of which image it reduces a side to less than one pixel.

    Args:
        image (str | tuple[int, ...]): Its file, or its height and width.

    Raises:
        UsageError: if it does.
    """
    import cv2

    try:
        yield
    except cv2.error as error:
        if error.func != 'resize':
            raise
        name = (
            image if isinstance(image, str) else f'image of {image[0]} x {image[1]} pixels (H x W)'
        )
        raise UsageError(
            f'{name}: the test pipeline would reduce a side to less than one pixel. Crop it, or '
            'pad it'
        ) from error


def _is_known(step: Any) -> bool:
    package = type(step).__module__.partition('.')[0]
    return package in ('mmdet', 'mmcv') and type(step).__name__ in (*SIZES, *WITHOUT_EFFECT)


def normalization_table(preprocessor: Any) -> np.ndarray:
    """Return the normalized value of each of 256 in each channel, (1, 256, 3), in the arithmetic of the host."""
    values = torch.arange(256, dtype=torch.float32).expand(3, 1, 256)
    if preprocessor._enable_normalize:
        values = (values - preprocessor.mean.cpu()) / preprocessor.std.cpu()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())


def _is_channels_last(model: nn.Module) -> bool:
    """Whether the first convolution takes its input in the memory format channels_last."""
    for module in model.modules():
        if isinstance(module, ReducedConv2d):
            return True
        if isinstance(module, nn.Conv2d):
            return module.weight.is_contiguous(memory_format=torch.channels_last)
    return False
