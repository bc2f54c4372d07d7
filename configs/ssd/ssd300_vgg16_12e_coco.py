_base_ = '../_base_/recipes/ssd300_vgg16_12e_coco.py'
