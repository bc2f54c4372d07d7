# GLUE in its own files, data/glue/SST-2/train.tsv and so on. Further files set the task.
dataset = dict(
    type='surge_mm.GlueDataset',
    data_root='data/glue',
    vocab='data/bert-base-uncased/vocab.txt',
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    dataset=dict(**dataset, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='surge_mm.LengthBatchSampler'),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    dataset=dict(**dataset, split='dev', test_mode=True),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='surge_mm.GlueMetric')
test_evaluator = val_evaluator
