# The weights of ReCU with the learned thresholds of ReActNet.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='RSign'),
    weight=dict(type='ReCU'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
