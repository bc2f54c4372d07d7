_base_ = '../cifar10_mini/resnet20-prelu_12e_cifar10-mini_surge.py'

model = dict(backbone=dict(conv_cfg=dict(compensator=dict(tied=True))))
