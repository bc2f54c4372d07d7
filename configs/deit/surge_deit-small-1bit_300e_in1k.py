_base_ = ['../_base_/recipes/deit-small-1bit_300e_in1k.py', '../_base_/methods/surge.py']

model = dict(binary={{_base_.conv_cfg}})
