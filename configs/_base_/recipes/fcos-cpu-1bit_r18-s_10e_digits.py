# Binarize the neck and head too, except predictors and 1x1 convolutions.
_base_ = './fcos-cpu_r18-s_10e_digits.py'

optim_wrapper = dict(optimizer=dict(lr=1e-2))
