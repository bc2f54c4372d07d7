_base_ = [
    '../models/fcos-cpu_r18-s.py',
    '../datasets/digits_coco.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
