"""Predictions of a packed model for images in memory: run, described by plain values, and drawn."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn

from surge_mm.deploy.predict.detector import Detections, Detector, check_image
from surge_mm.deploy.predict.image_input import resizable
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import default_scope

TOP = 5
"""Classes of an image that a classifier lists."""
_NUMBERS = itertools.count()


class Predictor:
    """Run a model on images, and describe and draw what it predicts.

    Args:
        model (nn.Module): Model of a host with ``cfg`` and ``dataset_meta``, as :func:`surge_mm.deploy.load_packed`
            returns it.
        score_thr (float): Least score of the instances that are listed and drawn. Defaults to 0.3.

    Raises:
        UsageError: if the model is not one of a host, or takes texts.
    """

    def __init__(self, model: nn.Module, score_thr: float = 0.3) -> None:
        if not isinstance(model, BaseModel):
            raise UsageError(
                f'{type(model).__name__} is no detector, classifier or segmentor, so its outputs cannot be drawn'
            )
        if hasattr(model, 'vocabulary'):
            raise UsageError(
                f'{type(model).__name__} takes texts, not images: python tools/classify.py MODEL "a sentence"'
            )
        self.model = model
        self.score_thr = score_thr
        self.scope = model.cfg.default_scope
        self.classes = model.dataset_meta.get('classes') or ()
        steps = copy.deepcopy(model.cfg.test_dataloader.dataset.pipeline)
        # LoadAnnotations of MMDetection takes an image without annotations, and later steps may need its empty boxes
        loaders = 'LoadImage' if self.scope == 'mmdet' else 'Load'
        loading = [step for step in steps if class_name(step.type).startswith(loaders)]
        self.dtype = np.float32 if any(step.get('to_float32') for step in loading) else np.uint8
        visualizer = model.cfg.get('visualizer') or {
            'type': _VISUALIZERS.get(self.scope, 'Visualizer')
        }
        # MMEngine shares visualizers of one name
        visualizer = {**visualizer, 'name': f'predictor_{next(_NUMBERS)}', 'vis_backends': None}
        with default_scope(self.scope):
            self.pipeline = Compose([step for step in steps if step not in loading])
            self.visualizer = VISUALIZERS.build(visualizer)
        meta = model.dataset_meta
        # Matplotlib takes what is between two $ for a formula; the visualizer of mmseg writes by OpenCV
        if self.classes and self.scope != 'mmseg':
            names = tuple(str(name).replace('$', r'\$') for name in self.classes)
            meta = {**meta, 'classes': names}
        self.visualizer.dataset_meta = meta
        self.detector = Detector(model) if 'BaseDetector' in base_class_names(model) else None

    def predict(self, image: np.ndarray) -> BaseDataElement:
        """Return the data sample of the host with the predictions for an image.

        Args:
            image (np.ndarray): Shape (H, W, 3), uint8, BGR as OpenCV reads it.

        Raises:
            UsageError: if the image has another shape or dtype, or the pipeline reduces a side of it to less than one
                pixel.
        """
        check_image(image)
        size = image.shape[:2]
        if self.detector and self.detector.decoder:
            return self._data_sample(self.detector(image), size)
        found = {'img': image.astype(self.dtype), 'img_path': None, 'img_id': 0}
        found |= {'img_shape': size, 'ori_shape': size}
        with default_scope(self.scope), resizable(size):
            found = self.pipeline(found)
        # data preprocessors of MMPretrain may take tensors alone
        collate = default_collate if self.scope == 'mmpretrain' else pseudo_collate
        with torch.no_grad():
            return self.model.test_step(collate([found]))[0]

    def _data_sample(self, found: Detections, size: tuple[int, ...]) -> BaseDataElement:
        from mmdet.structures import DetDataSample

        sample = DetDataSample(metainfo={'img_id': 0, 'img_path': None, 'ori_shape': size})
        tensors = map(torch.from_numpy, found)
        sample.pred_instances = InstanceData(
            **dict(zip(('bboxes', 'scores', 'labels'), tensors, strict=True))
        )
        return sample

    def describe(self, sample: BaseDataElement) -> list[dict[str, Any]]:
        """Return the predictions as plain values.

        Args:
            sample (BaseDataElement): Result of :meth:`predict`.

        Returns:
            list[dict]: Each with ``label`` (int), ``class`` (str), and

            - of a detector ``score``, ``bbox`` as ``[x1, y1, x2, y2]`` in pixels, and ``mask`` in COCO's run-length
              encoding if it predicts masks, for each instance;
            - of a classifier ``score``, for the best five classes;
            - of a segmentor ``share``, the share of pixels, for each class in the image.
        """
        if 'pred_instances' in sample:
            return self._instances(sample.pred_instances)
        if 'pred_score' in sample:
            best = sample.pred_score.topk(min(TOP, len(sample.pred_score)))
            return [
                {**self._named(label), 'score': float(score)}
                for score, label in zip(best.values, best.indices, strict=True)
            ]
        if 'pred_sem_seg' in sample:
            labels, counts = sample.pred_sem_seg.data.unique(return_counts=True)
            shares = zip(labels, counts / counts.sum(), strict=True)
            return [{**self._named(label), 'share': float(share)} for label, share in shares]
        return []

    def draw(self, image: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """Return a copy of an image with its predictions.

        Args:
            image (np.ndarray): Shape (H, W, 3), uint8, BGR.
            sample (BaseDataElement): Result of :meth:`predict`.

        Returns:
            np.ndarray: Shape (H, W, 3), uint8, BGR.
        """
        rgb = np.ascontiguousarray(image[..., ::-1])
        with warnings.catch_warnings():  # boxes may touch the border
            warnings.filterwarnings('ignore', r'Warning: The \w+ is out of bounds')
            if 'pred_score' in sample:
                drawn = self.visualizer.visualize_cls(rgb, sample, draw_gt=False)
            else:
                limit = {'pred_score_thr': self.score_thr} if 'pred_instances' in sample else {}
                self.visualizer.add_datasample('image', rgb, sample, draw_gt=False, **limit)
                drawn = self.visualizer.get_image()
        return np.ascontiguousarray(drawn[..., ::-1])

    def _named(self, label: Any) -> dict[str, Any]:
        label = int(label)
        name = str(self.classes[label]) if label < len(self.classes) else str(label)
        return {'label': label, 'class': name}

    def _instances(self, instances: BaseDataElement) -> list[dict[str, Any]]:
        kept = instances[instances.scores >= self.score_thr].cpu()
        found = [
            {**self._named(label), 'score': float(score), 'bbox': box.tolist()}
            for label, score, box in zip(kept.labels, kept.scores, kept.bboxes, strict=True)
        ]
        if 'masks' in kept:
            from mmdet.structures.mask import encode_mask_results

            for instance, mask in zip(found, encode_mask_results(kept.masks), strict=True):
                instance['mask'] = {**mask, 'counts': mask['counts'].decode()}
        return found


_VISUALIZERS = {
    'mmdet': 'DetLocalVisualizer',
    'mmpretrain': 'UniversalVisualizer',
    'mmseg': 'SegLocalVisualizer',
}
"""Visualizers of models whose config has none."""
