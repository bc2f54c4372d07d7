_base_ = [
    '../_base_/recipes/minilm-1bit_2e_sst2-20k.py',
    '../_base_/methods/surge-embedding.py',
]

model = dict(backbone={{_base_.bert}})
