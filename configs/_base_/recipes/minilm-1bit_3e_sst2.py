# All rows of SST-2's training file but those held out, in 3 epochs.
_base_ = './minilm-1bit_2e_sst2-20k.py'

train_dataloader = dict(dataset=dict(indices=None))
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=0.3, convert_to_iter_based=True),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        begin=0.3,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
