# RTE: whether a sentence follows from another.
_base_ = './glue.py'

task = dict(task='rte', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='rte')
test_evaluator = val_evaluator
