# Binarize the neck and head too, except predictors and 1x1 convolutions.
_base_ = './retinanet_r18_fpn_1x_coco.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.RetinaNet')
