# Neck and head are binary too, but for the predictors.
_base_ = [
    '../models/faster-rcnn_surge-r18_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../schedules/detector_12e.py',
    '../default_runtime.py',
]

model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.FasterRCNN',
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
