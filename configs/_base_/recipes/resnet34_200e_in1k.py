_base_ = [
    '../models/resnet34_in1k.py',
    '../datasets/imagenet.py',
    '../schedules/in1k_200e.py',
    '../cls_runtime.py',
]
