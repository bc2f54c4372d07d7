# MNLI: whether a sentence follows from another. Validation on the matched genres, test on the others.
_base_ = './glue.py'

task = dict(task='mnli', max_length=128)
train_dataloader = dict(dataset=task)
val_dataloader = dict(dataset=dict(**task, split='dev_matched'))
test_dataloader = dict(dataset=dict(**task, split='dev_mismatched'))
val_evaluator = dict(task='mnli')
test_evaluator = val_evaluator
