_base_ = [
    '../_base_/recipes/fcos-1bit-distill_r18-light_10e_digits.py',
    '../_base_/methods/surge.py',
]

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), binary={{_base_.conv_cfg}})
# The recipe has the learning rate of STE. With a teacher, 0.005 was the best of three for SURGE.
optim_wrapper = dict(optimizer=dict(lr=5e-3))
