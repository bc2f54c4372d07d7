# QQP: whether two questions ask the same.
_base_ = './glue.py'

task = dict(task='qqp', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='qqp')
test_evaluator = val_evaluator
