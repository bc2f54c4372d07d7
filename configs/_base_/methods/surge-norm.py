# Norm-preserving AGS: correct the direction of the gradient and keep its norm. Not part of the paper.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(eta=0.1, preserve_norm=True))
custom_hooks = [
    dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1, preserve_norm=True),
]
