# The recipe of BiDet (arXiv 2003.03961): Adam, learning rate 1e-3 at batch size 32, steps at epochs 6 and 10 of 12.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3), clip_grad=dict(max_norm=35)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[6, 10], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=32)
