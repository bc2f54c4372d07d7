_base_ = ['../_base_/recipes/resnet20_600e_cifar10.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
