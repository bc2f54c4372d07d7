_base_ = ['../_base_/recipes/reactnet-a_2x128e_imagenet.py', '../_base_/methods/step1.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
