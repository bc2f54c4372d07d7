# A control of SURGE: STE whose surrogate derivative is at least 0.1, outside of the window too.
_base_ = './ste.py'

conv_cfg = dict(activation=dict(type='ApproxSign', floor=0.1))
