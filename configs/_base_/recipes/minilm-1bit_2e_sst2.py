# All rows of SST-2's training file but those held out.
_base_ = './minilm-1bit_2e_sst2-20k.py'

train_dataloader = dict(dataset=dict(indices=None))
