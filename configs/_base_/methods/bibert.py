# BiBERT (arXiv 2203.06390): binary weights, activations, attention and word embeddings. For surge_mm.SurgeBert.
bert = dict(
    linear_cfg=dict(
        type='surge_mm.SurgeLinear',
        activation=dict(type='STESign'),
        weight=dict(type='BiBERT'),
        compensator=None,
    ),
    attention='bi',
    embedding_weight=dict(type='BiBERT'),
)
