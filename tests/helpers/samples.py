"""Random images with two objects, as MMDetection's datasets give them."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData


def detection_batch(size=128, with_masks=False):
    """Two samples of ``size`` pixels with objects of the classes 0 and 2."""
    images, samples = zip(*(detection_sample(size, with_masks, i) for i in range(2)), strict=True)
    return {'inputs': list(images), 'data_samples': list(samples)}


def detection_sample(size=128, with_masks=False, img_id=0):
    boxes = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 60.0, 120.0, 110.0]])
    masks = np.zeros((2, size, size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2]))
    if with_masks:
        instances.masks = BitmapMasks(masks, size, size)
    metainfo = {
        'img_shape': (size, size),
        'ori_shape': (size, size),
        'scale_factor': (1.0, 1.0),
        'img_id': img_id,
    }
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    return image, DetDataSample(gt_instances=instances, metainfo=metainfo)
