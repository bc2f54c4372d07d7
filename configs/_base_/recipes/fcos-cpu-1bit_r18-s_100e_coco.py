# Binarize the neck and head too, except predictors and 1x1 convolutions.
_base_ = './fcos-cpu_r18-s_100e_coco.py'
