_base_ = ['../_base_/recipes/retinanet_r18-light_20e_bccd.py', '../_base_/methods/surge.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
