_base_ = ['../_base_/recipes/resnet18_128e-step2_in1k.py', '../_base_/methods/recu-rsign.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
