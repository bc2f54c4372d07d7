_base_ = './resnet20_12e_cifar10-mini.py'

model = dict(backbone=dict(act_cfg=dict(type='PReLU')))
