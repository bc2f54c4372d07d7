_base_ = ['../_base_/recipes/resnet18_600e_cifar10.py', '../_base_/methods/irnet.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
