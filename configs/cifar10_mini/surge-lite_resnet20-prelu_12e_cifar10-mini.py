_base_ = ['../_base_/recipes/resnet20-prelu_12e_cifar10-mini.py', '../_base_/methods/surge-lite.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
