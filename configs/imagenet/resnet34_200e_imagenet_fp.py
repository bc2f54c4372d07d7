_base_ = ['../_base_/recipes/resnet34_200e_imagenet.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
