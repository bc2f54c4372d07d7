_base_ = [
    '../models/vgg-small_cifar.py',
    '../datasets/cifar10.py',
    '../schedules/cifar10_600e.py',
    '../cls_runtime.py',
]
