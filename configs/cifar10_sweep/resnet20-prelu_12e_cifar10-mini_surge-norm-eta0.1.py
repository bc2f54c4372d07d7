_base_ = '../cifar10_mini/resnet20-prelu_12e_cifar10-mini_surge.py'

custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1, preserve_norm=True)]
