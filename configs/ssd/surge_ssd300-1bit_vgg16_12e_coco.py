_base_ = ['../_base_/recipes/ssd300-1bit_vgg16_12e_coco.py', '../_base_/methods/surge.py']

model = dict(binary={{_base_.conv_cfg}})
