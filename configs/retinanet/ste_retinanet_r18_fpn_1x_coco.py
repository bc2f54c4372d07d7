_base_ = ['../_base_/recipes/retinanet_r18_fpn_1x_coco.py', '../_base_/methods/ste.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
