# The first of two steps: binary activations, real weights.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='RSign'),
    weight=dict(type='Real'),
    compensator=None,
)
