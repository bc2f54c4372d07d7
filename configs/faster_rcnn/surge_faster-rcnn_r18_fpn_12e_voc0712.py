_base_ = ['../_base_/recipes/faster-rcnn_r18_fpn_12e_voc0712.py', '../_base_/methods/surge.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
