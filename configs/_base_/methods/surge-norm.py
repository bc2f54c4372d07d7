# AGS that corrects the direction of the gradient and keeps its length; an idea of this project.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(eta=0.1, preserve_norm=True))
custom_hooks = [
    dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1, preserve_norm=True),
]
