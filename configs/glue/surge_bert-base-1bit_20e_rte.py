_base_ = ['../_base_/recipes/bert-base-1bit_20e_rte.py', '../_base_/methods/surge.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
