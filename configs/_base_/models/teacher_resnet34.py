# Teacher of the two-step training on ImageNet: the full-precision ResNet-34 of MMPretrain (73.6 % top-1).
teacher = dict(
    config='mmpretrain::resnet/resnet34_8xb32_in1k.py',
    checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth',
)
