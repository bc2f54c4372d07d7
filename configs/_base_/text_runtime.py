# The last checkpoint is the result. None is chosen on the dev set.
_base_ = './cls_runtime.py'

default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, max_keep_ckpts=1, save_best=None),
)
