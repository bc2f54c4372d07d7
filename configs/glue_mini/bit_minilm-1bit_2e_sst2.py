_base_ = [
    '../_base_/recipes/minilm-1bit_2e_sst2.py',
    '../_base_/methods/bit.py',
]

model = dict(backbone={{_base_.bert}})
