_base_ = [
    '../models/retinanet_r18_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../schedules/ida-det_12e.py',
    '../default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=20))
