_base_ = './fcos-cpu_r18-s_40e_bccd.py'

model = dict(backbone=dict(base_channels=64), neck=dict(in_channels=[128, 256, 512]))
