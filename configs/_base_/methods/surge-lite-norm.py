# Norm-preserving SURGE lite: the latent weights are the weights of the branch, which corrects the direction of the
# gradient and keeps its norm. Not part of the paper.
_base_ = './surge-norm.py'

conv_cfg = dict(compensator=dict(tied=True))
