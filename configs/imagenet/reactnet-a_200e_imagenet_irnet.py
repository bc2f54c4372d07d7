_base_ = ['../_base_/recipes/reactnet-a_200e_imagenet.py', '../_base_/methods/irnet.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
