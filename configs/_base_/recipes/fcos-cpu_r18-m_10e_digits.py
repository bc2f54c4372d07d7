_base_ = './fcos-cpu_r18-s_10e_digits.py'

model = dict(backbone=dict(base_channels=48), neck=dict(in_channels=[96, 192, 384]))
