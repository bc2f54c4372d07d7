_base_ = ['../_base_/recipes/minilm-1bit_2e_sst2-20k.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
