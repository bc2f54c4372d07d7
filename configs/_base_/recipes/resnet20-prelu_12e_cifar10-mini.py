_base_ = './resnet20_12e_cifar10-mini.py'

model = dict(backbone=dict(act_cfg=dict(type='PReLU')))
# the best of eight rates for STE and for SURGE (docs/results/cifar10.md)
optim_wrapper = dict(optimizer=dict(lr=0.4))
