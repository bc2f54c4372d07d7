_base_ = ['../_base_/recipes/resnet18_200e_in1k.py', '../_base_/methods/irnet.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
