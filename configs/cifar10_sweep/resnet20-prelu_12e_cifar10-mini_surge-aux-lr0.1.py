_base_ = '../cifar10_mini/resnet20-prelu_12e_cifar10-mini_surge.py'

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(aux_weight=dict(lr_mult=0.1))))
