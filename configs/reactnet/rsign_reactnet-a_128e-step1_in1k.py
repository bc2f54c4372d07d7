_base_ = ['../_base_/recipes/reactnet-a_128e-step1_in1k.py', '../_base_/methods/rsign.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
