# Binarize the FPN, RPN, box head and mask head too, except predictors and 1x1 convolutions.
_base_ = './mask-rcnn_r18_fpn_1x_coco.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.MaskRCNN')
