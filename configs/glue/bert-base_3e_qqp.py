_base_ = ['../_base_/recipes/bert-base_3e_qqp.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
