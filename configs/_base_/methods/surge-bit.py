# SURGE with the binarizers of BiT.
_base_ = './bit.py'

bert = dict(linear_cfg=dict(compensator=dict(_delete_=True, eta=0.1)))
custom_hooks = [dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1)]
