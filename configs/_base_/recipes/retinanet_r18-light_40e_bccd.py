# The structure of a detector that is binary throughout, for 40 epochs. Towers have a batch norm for each level: it is
# folded when the detector is packed.
_base_ = './retinanet_r18-light_20e_bccd.py'

max_epochs = 40
model = dict(
    type='surge_mm.Binarized',
    base_type='mmdet.RetinaNet',
    shortcuts=True,
    bbox_head=dict(type='RetinaSepBNHead', num_ins=3, norm_cfg=dict(_delete_=True, type='BN')),
)
train_cfg = dict(max_epochs=max_epochs)
# The levels share the convolutions of the towers.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
