_base_ = [
    '../_base_/recipes/fcos-cpu-1bit-distill_r18-l_10e_digits.py',
    '../_base_/methods/ste.py',
]

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), binary={{_base_.conv_cfg}})
