# STE with word embeddings of 1 bit, for small packed files. For surge_mm.SurgeBert.
bert = dict(
    linear_cfg=dict(type='surge_mm.SurgeLinear', compensator=None),
    embedding_weight=dict(type='ScaledSign'),
)
