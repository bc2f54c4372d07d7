_base_ = ['../_base_/recipes/rtmdet-1bit_r18_1x_coco.py', '../_base_/methods/surge.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), binary={{_base_.conv_cfg}})
