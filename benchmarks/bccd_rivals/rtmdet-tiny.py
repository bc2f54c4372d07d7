# RTMDet-tiny of MMDetection, from scratch, with the data and the schedule of configs/cpu.
_base_ = [
    'surge_mm::_base_/models/rtmdet_r18.py',
    'surge_mm::_base_/datasets/bccd_voc.py',
    'surge_mm::_base_/schedules/digits_10e.py',
    'surge_mm::_base_/default_runtime.py',
]

max_epochs = 40
model = dict(
    backbone=dict(
        _delete_=True,
        type='CSPNeXt',
        arch='P5',
        expand_ratio=0.5,
        deepen_factor=0.167,
        widen_factor=0.375,
        channel_attention=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU', inplace=True),
    ),
    neck=dict(in_channels=[96, 192, 384], out_channels=96),
    bbox_head=dict(num_classes=3, in_channels=96, feat_channels=96, exp_on_reg=False),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# The levels share the convolutions of the head.
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(bypass_duplicate=True))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
