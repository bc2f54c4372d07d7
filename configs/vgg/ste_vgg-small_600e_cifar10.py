_base_ = ['../_base_/recipes/vgg-small_600e_cifar10.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
