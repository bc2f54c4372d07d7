_base_ = ['../_base_/recipes/minilm_2e_sst2-20k.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
