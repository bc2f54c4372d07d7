_base_ = [
    '../models/resnet18_cifar.py',
    '../datasets/cifar10.py',
    '../schedules/cifar10_600e.py',
    '../cls_runtime.py',
]
