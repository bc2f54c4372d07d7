_base_ = './bert-1bit_10e.py'

max_epochs = 20
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='LinearLR',
        start_factor=1.0,
        end_factor=0.0,
        begin=2,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
