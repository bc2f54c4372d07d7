# MiniLM of 6 layers with 384 features, pretrained. It starts from a local folder of Hugging Face.
model = dict(
    type='surge_mm.TextClassifier',
    data_preprocessor=dict(type='surge_mm.TextDataPreprocessor'),
    backbone=dict(
        type='surge_mm.SurgeBert',
        hidden_size=384,
        num_hidden_layers=6,
        intermediate_size=1536,
        pooling='mean',
        init_cfg=dict(type='surge_mm.HuggingFaceInit', folder='data/minilm'),
    ),
    num_classes=2,
)
