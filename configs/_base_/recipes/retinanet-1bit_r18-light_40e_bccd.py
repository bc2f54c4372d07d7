# Binarize the neck and head too, except predictors and 1x1 convolutions.
_base_ = './retinanet_r18-light_40e_bccd.py'
