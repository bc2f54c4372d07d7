_base_ = [
    '../models/mask-rcnn_r18_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '../schedules/schedule_1x.py',
    '../default_runtime.py',
]
