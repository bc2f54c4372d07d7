_base_ = [
    '../models/reactnet-a_in1k.py',
    '../datasets/imagenet.py',
    '../schedules/in1k_200e.py',
    '../cls_runtime.py',
]
