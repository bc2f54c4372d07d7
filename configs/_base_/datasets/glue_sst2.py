# SST-2: whether a sentence of a film review is positive.
_base_ = './glue.py'

task = dict(task='sst2', max_length=64)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='sst2')
test_evaluator = val_evaluator
