# A quarter of the channels of configs/cpu/fcos-cpu_r18-s_40e_bccd.py, in backbone, neck and head.
_base_ = 'surge_mm::cpu/fcos-cpu_r18-s_40e_bccd.py'

model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=16),
    bbox_head=dict(in_channels=16, feat_channels=16),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
