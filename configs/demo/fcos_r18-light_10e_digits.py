_base_ = ['../_base_/recipes/fcos_r18-light_10e_digits.py', '../_base_/methods/fp.py']

model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.FCOS',
    structure_only=True,
    shortcuts=True,
    backbone=dict(conv_cfg={{_base_.conv_cfg}}),
    bbox_head=dict(type='surge_mm.FCOSSepBNHead', norm_cfg=dict(_delete_=True, type='BN')),
)
# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
