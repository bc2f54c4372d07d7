"""Boxes of an image as NumPy arrays, without data samples of the host: :class:`Detector`."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from surge_mm.deploy.capture.network import CapturedNetwork
from surge_mm.deploy.packed_file.save_load import load_packed
from surge_mm.deploy.predict.box_decoding import BoxDecoder
from surge_mm.deploy.predict.image_input import ImageInput
from surge_mm.deploy.predict.kept_priors import keep_priors
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.errors import UsageError


class Detections(NamedTuple):
    """Instances that a :class:`Detector` finds in an image, by decreasing scores.

    Attributes:
        boxes (np.ndarray): ``(n, 4)``, float32, ``x1, y1, x2, y2`` in pixels of the image.
        scores (np.ndarray): ``(n,)``, float32, 0 to 1.
        labels (np.ndarray): ``(n,)``, int64, indices into the classes of the detector.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Detector:
    """Find boxes in images with a detector of MMDetection, in the shortest time around its network.

    The boxes are those of ``mmdet.apis.inference_detector``, to the bit. Of equal scores, the first candidate comes
    first here; their order there, and which of them are within a limit, is undefined. What that function does anew for
    each image is done once: the test pipeline is built with the detector, the priors are kept for each size, and images
    and boxes are passed without data samples. From the third image of a size on, a packed network runs by its
    operations alone, as :class:`surge_mm.deploy.CapturedNetwork` describes. A test pipeline with other steps than
    ``Resize`` and ``Pad``, and a head with a decoding of its own, run as the host runs them, with the same result.

    Args:
        model (str | os.PathLike | nn.Module): A packed file, or a detector as
            :func:`surge_mm.deploy.load_packed` or ``mmdet.apis.init_detector`` returns it.
        score_thr (float): Least score of the boxes that are returned, beside that of the config. Defaults to 0.0, for
            all boxes that the config keeps.
        channel_order (str): Order of the channels of arrays, ``'bgr'`` as OpenCV and MMCV read images, or ``'rgb'``.
            Defaults to ``'bgr'``.
        allow (Collection[type | str]): See :func:`surge_mm.deploy.load_packed`. Defaults to none.

    Attributes:
        model (nn.Module): The detector of MMDetection.
        classes (tuple[str, ...]): Names of the classes.
        image_input (ImageInput): Preparation of an image.
        network (CapturedNetwork): The network, from the image to the maps of the head.
        decoder (BoxDecoder, optional): Decoding of the boxes. None if that of the host is used.

    Raises:
        CheckpointError: if the file is no packed file; see :func:`surge_mm.deploy.load_packed`.
        UsageError: if the model is no detector of MMDetection, or an argument is out of range.

    Example:
        >>> detector = Detector('detector.safetensors', score_thr=0.3)
        >>> for box, score, label in zip(*detector('image.jpg')):
        ...     print(detector.classes[label], score, box)
    """

    def __init__(
        self,
        model: str | os.PathLike | nn.Module,
        score_thr: float = 0.0,
        channel_order: str = 'bgr',
        allow: Collection[type | str] = (),
    ) -> None:
        if channel_order not in ('bgr', 'rgb'):
            raise UsageError(f"channel_order={channel_order!r} must be 'bgr' or 'rgb'")
        if not 0 <= score_thr <= 1:
            raise UsageError(f'score_thr={score_thr!r} must be in 0 to 1')
        source = '' if isinstance(model, nn.Module) else f' of {str(model)!r}'
        if not isinstance(model, nn.Module):
            model = load_packed(model, allow=allow)
        if 'BaseDetector' not in base_class_names(model) or not hasattr(model, 'cfg'):
            raise UsageError(
                f'the {type(model).__name__}{source} is no detector of MMDetection with its config. Detector finds '
                'boxes; surge_mm.deploy.Predictor runs classifiers and segmentors'
            )
        self.model = model.eval()
        self.classes: tuple[str, ...] = tuple(getattr(model, 'dataset_meta', {}).get('classes', ()))
        self.score_thr = score_thr
        self.channel_order = channel_order
        keep_priors(model)
        self.image_input = ImageInput(model)
        self.network = CapturedNetwork(model, self._maps)
        self.decoder = BoxDecoder.of(model) if self.image_input.is_plain else None

    def __call__(self, image: np.ndarray | str | os.PathLike) -> Detections:
        """Return the boxes of an image.

        Args:
            image (np.ndarray | str | os.PathLike): Shape (H, W, 3), uint8, in the order ``channel_order``. Or the
                file of an image, which is read as the test pipeline reads it.

        Raises:
            UsageError: if the image is none of these, or the file is missing or no image.
        """
        given: np.ndarray | str
        if isinstance(image, (str, os.PathLike)):
            given = os.fspath(image)
        else:
            check_image(image)
            given = np.ascontiguousarray(image if self.channel_order == 'bgr' else image[..., ::-1])
        with torch.inference_mode():
            found = Detections(*(values.cpu().numpy() for values in self._detect(given)))
        if self.score_thr > 0:
            kept = found.scores >= self.score_thr
            found = Detections(*(values[kept] for values in found))
        return found

    def _maps(self, images: Tensor) -> Any:
        model: Any = self.model
        return model.bbox_head(model.extract_feat(images))

    def _detect(self, image: np.ndarray | str) -> tuple[Tensor, Tensor, Tensor]:
        model: Any = self.model
        if self.image_input.is_plain:
            inputs, meta = self.image_input.prepare(
                self.image_input.read(image) if isinstance(image, str) else image
            )
            if self.decoder is not None:
                maps = self.network(inputs)
                return self.decoder.decode(maps, meta['img_shape'], meta['scale_factor'])
            sample = model(inputs, [self.image_input.sample(meta)], mode='predict')[0]
        else:
            sample = model.test_step(self.image_input.batch(image))[0]
        if 'pred_instances' not in sample:
            raise UsageError(
                f'{type(model).__name__} predicts no boxes, but {", ".join(sample.keys())}: run it by '
                'surge_mm.deploy.Predictor'
            )
        found = sample.pred_instances
        return found.bboxes, found.scores, found.labels


def check_image(image: Any) -> None:
    """Check an image in memory.

    Args:
        image (Any): Must be an array of shape (H, W, 3), uint8, with at least one pixel.

    Raises:
        UsageError: if it is not.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f'image is a {type(image).__name__}. It must be a NumPy array of shape (H, W, 3), uint8, BGR: '
            'cv2.imread(path), or np.asarray(pil_image)[..., ::-1]. A Detector takes a path too'
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        ways = {
            'gray': 'Convert a gray image by cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)',
            'alpha': 'Leave out the alpha channel: image[..., :3]',
            'first': 'Move the channels to the end: image.transpose(1, 2, 0)',
        }
        kind = 'gray' if image.ndim == 2 or image.shape[-1:] == (1,) else ''
        kind = kind or ('alpha' if image.ndim == 3 and image.shape[2] == 4 else '')
        kind = kind or ('first' if image.ndim == 3 and image.shape[0] == 3 else '')
        advice = f'. {ways[kind]}' if kind else ''
        raise UsageError(
            f'image has the shape {image.shape}, which must be (H, W, 3) with at least one pixel{advice}'
        )
    if image.dtype != np.uint8:
        raise UsageError(
            f'image has the dtype {image.dtype}, which must be uint8, with values of 0 to 255. The model '
            'normalizes it by itself'
        )
