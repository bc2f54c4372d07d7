# XNOR-Net (arXiv 1603.05279).
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='STESign'),
    weight=dict(type='XNOR'),
    compensator=None,
)
