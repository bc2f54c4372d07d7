# Neck and head are binary too, but for the predictors.
_base_ = [
    '../models/cascade-rcnn_surge-r18_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../schedules/detector_12e.py',
    '../default_runtime.py',
]

model = dict(type='surge_mm.Binarized', base_type='mmdet.CascadeRCNN')
