# Binarize the neck and head too, except predictors and 1x1 convolutions. Towers have a batch norm for each level: it is
# folded when the detector is packed.
_base_ = './fcos_r18-light_10e_digits.py'

model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.FCOS',
    shortcuts=True,
    bbox_head=dict(type='surge_mm.FCOSSepBNHead', norm_cfg=dict(_delete_=True, type='BN')),
)
# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
