# ReCU (arXiv 2103.12369).
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ApproxSign'),
    weight=dict(type='ReCU'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
