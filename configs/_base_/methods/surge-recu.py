# SURGE with the binarizers of ReCU.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ApproxSign'),
    weight=dict(type='ReCU'),
    compensator=dict(eta=0.1),
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
    dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1),
]
