# QNLI: whether a sentence answers a question.
_base_ = './glue.py'

task = dict(task='qnli', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='qnli')
test_evaluator = val_evaluator
