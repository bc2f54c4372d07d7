_base_ = ['../_base_/recipes/bert-base-1bit_10e_qnli.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(linear_cfg={{_base_.conv_cfg}}))
