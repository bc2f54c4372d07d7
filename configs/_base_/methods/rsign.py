# Binary activations with learned thresholds and real weights: the first of ReActNet's two steps.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='RSign'),
    weight=dict(type='Real'),
    compensator=None,
)
