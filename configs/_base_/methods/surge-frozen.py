# A control of SURGE: the auxiliary weights stay at random values, so that the branch is not aligned with the layer.
_base_ = './surge.py'

conv_cfg = dict(compensator=dict(frozen=True))
