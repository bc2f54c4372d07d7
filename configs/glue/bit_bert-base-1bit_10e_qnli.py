_base_ = ['../_base_/recipes/bert-base-1bit_10e_qnli.py', '../_base_/methods/bit.py']

model = dict(backbone={{_base_.bert}})
