# First of two steps with distillation from a full-precision ResNet-34.
_base_ = [
    '../models/resnet18_in1k.py',
    '../models/teacher_resnet34.py',
    '../datasets/imagenet.py',
    '../schedules/in1k_adam_128e.py',
    '../cls_runtime.py',
]

model = dict(
    type='surge_mm.DistilledClassifier',
    teacher={{_base_.teacher}},
    backbone=dict(act_cfg=dict(type='surge_mm.RPReLU')),
)
