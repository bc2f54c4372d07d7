# SURGE lite: the latent weights are the weights of the auxiliary branch. Not part of the paper.
_base_ = './surge.py'

conv_cfg = dict(compensator=dict(tied=True))
# 3.1 is the growth of the gradient at eta 0.1 over 32 layers, the most at which all runs of two epochs were stable.
custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1, max_growth=3.1)]
