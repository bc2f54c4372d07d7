# A small detector of blood cells, trained from scratch on a CPU with the schedule of the demo.
_base_ = [
    '../models/retinanet_r18-light.py',
    '../datasets/bccd_voc.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

max_epochs = 20
model = dict(bbox_head=dict(num_classes=3))
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
