# SURGE with the binarizers of ReActNet.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='RSign'),
    weight=dict(type='ReAct'),
    compensator=dict(eta=0.1),
)
custom_hooks = [
    dict(type='surge_mm.AdaptiveGradientScalerHook', eta=0.1),
]
