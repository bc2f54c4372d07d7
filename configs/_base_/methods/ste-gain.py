# A control of SURGE: STE whose surrogate gradient is longer by a constant factor in each layer. At initial weights of
# ResNet-20, the gradient at the stem is 1.9 times that of STE, as with eta 0.1 (benchmarks/gradient_growth.py).
_base_ = './ste.py'

conv_cfg = dict(activation=dict(type='ApproxSign', gain=1.08))
