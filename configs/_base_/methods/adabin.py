# AdaBin (arXiv 2208.08084): its binary weights. The activations are signs, without AdaBin's two learned values.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ApproxSign'),
    weight=dict(type='AdaBin'),
    compensator=None,
)
custom_hooks = [
    dict(type='surge_mm.BinarizerScheduleHook'),
]
