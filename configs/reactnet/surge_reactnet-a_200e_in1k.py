_base_ = ['../_base_/recipes/reactnet-a_200e_in1k.py', '../_base_/methods/surge.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
