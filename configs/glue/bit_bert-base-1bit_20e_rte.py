_base_ = ['../_base_/recipes/bert-base-1bit_20e_rte.py', '../_base_/methods/bit.py']

model = dict(backbone={{_base_.bert}})
