# Neck and head are binary too, but for the 1x1 convolutions and the predictors.
_base_ = './retinanet_r18-light_20e_bccd.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.RetinaNet')
