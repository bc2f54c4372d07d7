# IR-Net (arXiv 1909.10788).
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='EDE'),
    weight=dict(type='Libra'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
