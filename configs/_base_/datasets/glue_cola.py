# CoLA: whether a sentence is grammatical.
_base_ = './glue.py'

task = dict(task='cola', max_length=64)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=task)
test_dataloader = val_dataloader
val_evaluator = dict(task='cola')
test_evaluator = val_evaluator
