# A small detector of blood cells, trained from scratch on a CPU. Towers have a batch norm for each level: it is folded
# when the detector is packed.
_base_ = [
    '../models/retinanet_r18-light.py',
    '../datasets/bccd_voc.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

max_epochs = 40
model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.RetinaNet',
    shortcuts=True,
    bbox_head=dict(
        type='RetinaSepBNHead',
        num_classes=3,
        num_ins=3,
        norm_cfg=dict(_delete_=True, type='BN'),
    ),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
