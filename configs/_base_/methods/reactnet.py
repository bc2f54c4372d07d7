# ReActNet (arXiv 2003.03488): a learned threshold per channel. Its RPReLU is the act_cfg of the backbone.
conv_cfg = dict(
    type='surge_mm.SurgeConv2d',
    activation=dict(type='RSign'),
    weight=dict(type='ReAct'),
    compensator=None,
)
