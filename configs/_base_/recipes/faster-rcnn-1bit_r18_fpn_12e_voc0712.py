# Binarize the FPN, RPN and box head too, except predictors and 1x1 convolutions.
_base_ = './faster-rcnn_r18_fpn_12e_voc0712.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.FasterRCNN')
