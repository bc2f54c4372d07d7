_base_ = [
    '../models/faster-rcnn_r18_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../schedules/schedule_1x.py',
    '../default_runtime.py',
]
