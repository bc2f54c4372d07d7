_base_ = ['../_base_/recipes/bert-base-1bit_5e-step2_mnli.py', '../_base_/methods/bit.py']

model = dict(backbone={{_base_.bert}})
