# 20,000 rows of SST-2's training file, without those held out to make choices on; the test has the dev file.
_base_ = [
    '../models/minilm.py',
    '../datasets/glue_sst2.py',
    '../schedules/minilm_2e.py',
    '../text_runtime.py',
]

vocab = 'data/minilm/vocab.txt'
train_dataloader = dict(batch_size=32, dataset=dict(split='fit', vocab=vocab, indices=20000))
val_dataloader = dict(batch_size=128, dataset=dict(split='holdout', vocab=vocab))
test_dataloader = dict(batch_size=128, dataset=dict(split='dev', vocab=vocab))
