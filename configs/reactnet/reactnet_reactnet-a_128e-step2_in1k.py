_base_ = ['../_base_/recipes/reactnet-a_128e-step2_in1k.py', '../_base_/methods/reactnet.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
