_base_ = ['../_base_/recipes/fcos-cpu_r18-l_100e_coco.py', '../_base_/methods/fp.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), structure_only=True)
