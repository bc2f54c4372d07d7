# The detector of `make demo`. Towers have a batch norm for each level: it is folded when the detector is packed.
_base_ = [
    '../models/fcos_r18-light.py',
    '../datasets/digits_coco.py',
    '../schedules/digits_10e.py',
    '../default_runtime.py',
]

model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.FCOS',
    shortcuts=True,
    bbox_head=dict(type='surge_mm.FCOSSepBNHead', norm_cfg=dict(_delete_=True, type='BN')),
)
# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=1, max_keep_ckpts=2),
)
