_base_ = [
    '../models/reactnet-a_imagenet.py',
    '../models/teacher_resnet34.py',
    '../datasets/imagenet.py',
    '../schedules/imagenet_adam_128e.py',
    '../cls_runtime.py',
]

model = dict(type='surge_mm.DistilledClassifier', teacher={{_base_.teacher}})
