# The weights of AdaBin (arXiv 2208.08084); its activations, which are not signs, are not here.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ApproxSign'),
    weight=dict(type='AdaBin'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
