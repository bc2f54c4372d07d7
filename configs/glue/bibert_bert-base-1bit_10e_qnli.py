_base_ = ['../_base_/recipes/bert-base-1bit_10e_qnli.py', '../_base_/methods/bibert.py']

# The losses and the learning rate of BiBERT.
model = dict(
    backbone={{_base_.bert}},
    hidden='direction',
    relation_weight=1.0,
    label_weight=0.5,
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
