_base_ = ['../_base_/recipes/retinanet_r18_fpn_12e_voc0712.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
