# Binarize the FPN, RPN and box heads too, except predictors and 1x1 convolutions.
_base_ = './cascade-rcnn_r18_fpn_12e_voc0712.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.CascadeRCNN')
