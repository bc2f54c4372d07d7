_base_ = [
    '../_base_/recipes/fcos-cpu-1bit-distill_r18-m_40e_bccd.py',
    '../_base_/methods/ste.py',
]

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}), binary={{_base_.conv_cfg}})
