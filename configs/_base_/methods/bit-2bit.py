# The middle one of BiT's three steps: binary weights, activations of 2 bits. For training alone.
_base_ = './bit.py'

bert = dict(
    linear_cfg=dict(activation=dict(bits=2)),
    attention_bits=2,
    ffn_activation=dict(bits=2),
)
