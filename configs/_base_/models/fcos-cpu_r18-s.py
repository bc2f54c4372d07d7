# A small FCOS for CPUs: few real-valued operations, and norms that a packed model folds. Widths of the three sizes:
# s: backbone from 32 channels, in_channels of the neck [64, 128, 256]; m: 48, [96, 192, 384]; l: 64, [128, 256, 512].
_base_ = './fcos_r18-light.py'

model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.FCOS',
    shortcuts=True,
    backbone=dict(stem='patch'),
    bbox_head=dict(
        type='surge_mm.FCOSSepBNHead',
        narrow=True,
        norm_cfg=dict(_delete_=True, type='BN'),
    ),
)
