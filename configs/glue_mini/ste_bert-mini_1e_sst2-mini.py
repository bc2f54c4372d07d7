_base_ = ['../_base_/recipes/bert-mini_1e_sst2-mini.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
