_base_ = [
    '../models/resnet18_imagenet.py',
    '../datasets/imagenet.py',
    '../schedules/imagenet_200e.py',
    '../cls_runtime.py',
]
