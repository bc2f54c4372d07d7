# SURGE lite: the latent weights are the weights of the auxiliary branch. Not part of the paper.
_base_ = './surge.py'

conv_cfg = dict(compensator=dict(tied=True))
