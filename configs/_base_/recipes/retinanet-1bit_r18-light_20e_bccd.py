# Binarize the neck and head too, except predictors and 1x1 convolutions.
_base_ = './retinanet_r18-light_20e_bccd.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.RetinaNet')
