# Bi-Real Net (arXiv 1808.00278).
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='ApproxSign'),
    weight=dict(type='ReAct'),
    compensator=None,
)
