_base_ = ['../_base_/recipes/fcos-cpu-1bit_r18-l_100e_voc0712.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), binary={{_base_.conv_cfg}})
