_base_ = [
    '../models/faster-rcnn_r18_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../schedules/ida-det_12e.py',
    '../default_runtime.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
