_base_ = [
    '../_base_/models/fcos_light.py',
    '../_base_/datasets/digits_coco.py',
    '../_base_/schedules/digits_10e.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
