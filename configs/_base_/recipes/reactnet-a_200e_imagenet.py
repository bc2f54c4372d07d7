_base_ = [
    '../models/reactnet-a_imagenet.py',
    '../datasets/imagenet.py',
    '../schedules/imagenet_200e.py',
    '../cls_runtime.py',
]
