_base_ = [
    '../models/retinanet_surge-r18_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../schedules/detector_12e.py',
    '../default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=20))
