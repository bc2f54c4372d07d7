# ReSTE (arXiv 2308.06689) for the activations. The weights are scaled signs.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ReSTE'),
    weight=dict(type='ScaledSign'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
