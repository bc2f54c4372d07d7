# SURGE with word embeddings of 1 bit, for small packed files.
_base_ = './ste-embedding.py'

bert = dict(linear_cfg=dict(compensator=dict(_delete_=True, eta=0.1)))
custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1)]
