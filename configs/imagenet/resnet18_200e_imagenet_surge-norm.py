_base_ = ['../_base_/recipes/resnet18_200e_imagenet.py', '../_base_/methods/surge-norm.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
