_base_ = [
    '../models/fcos_r18-light.py',
    '../datasets/digits_coco.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
