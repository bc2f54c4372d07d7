# BERT of 2 layers with 256 features, trained from scratch.
model = dict(
    type='surge_mm.TextClassifier',
    data_preprocessor=dict(type='surge_mm.TextDataPreprocessor'),
    backbone=dict(
        type='surge_mm.SurgeBert',
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=64,
    ),
    num_classes=2,
)
