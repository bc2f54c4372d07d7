_base_ = [
    '../models/rtmdet_r18.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../schedules/schedule_1x.py',
    '../default_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=0.01))
