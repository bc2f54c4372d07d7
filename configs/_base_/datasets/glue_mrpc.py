# MRPC: whether two sentences say the same.
_base_ = './glue.py'

task = dict(task='mrpc', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='mrpc')
test_evaluator = val_evaluator
