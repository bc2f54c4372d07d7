_base_ = [
    '../models/fcos-cpu_r18-s.py',
    '../datasets/bccd_voc.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

max_epochs = 40
model = dict(bbox_head=dict(num_classes=3), test_cfg=dict(max_per_img=100))
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
# The levels share the convolutions of the towers.
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(bypass_duplicate=True))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
