# Binarize VGG-16 and the extra layers, except the first convolution, 1x1 convolutions and predictors.
_base_ = './ssd300_vgg16_12e_voc0712.py'

model = dict(type='surge_mm.Binarized', base_type='mmdet.SingleStageDetector')
