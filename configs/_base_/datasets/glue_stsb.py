# STS-B: how similar two sentences are, from 0 to 5.
_base_ = './glue.py'

task = dict(task='stsb', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='stsb')
test_evaluator = val_evaluator
