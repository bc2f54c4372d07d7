_base_ = [
    '../models/resnet34_imagenet.py',
    '../datasets/imagenet.py',
    '../schedules/imagenet_200e.py',
    '../cls_runtime.py',
]
