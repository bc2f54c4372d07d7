# BERT-base (arXiv 1810.04805). It starts from a local folder of Hugging Face's bert-base-uncased.
model = dict(
    type='surge_mm.TextClassifier',
    data_preprocessor=dict(type='surge_mm.TextDataPreprocessor'),
    backbone=dict(
        type='surge_mm.SurgeBert',
        init_cfg=dict(type='surge_mm.HuggingFaceInit', folder='data/bert-base-uncased'),
    ),
    num_classes=2,
)
