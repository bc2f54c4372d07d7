_base_ = ['../_base_/recipes/resnet18_2x128e_imagenet.py', '../_base_/methods/step1.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
