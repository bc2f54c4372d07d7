# BiT (arXiv 2205.13016): activations with learned scales, ReLU in place of GELU, word embeddings with a scale per row.
# For surge_mm.SurgeBert.
bert = dict(
    linear_cfg=dict(
        type='surge_mm.SurgeLinear',
        activation=dict(type='ElasticSign'),
        weight=dict(type='BiT'),
        compensator=None,
    ),
    activation='relu',
    attention='elastic',
    ffn_activation=dict(type='ElasticBinary'),
    embedding_weight=dict(type='ScaledSign'),
)
