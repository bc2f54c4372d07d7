_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_stsb.py',
    '../schedules/bert_3e.py',
    '../text_runtime.py',
]

model = dict(num_classes=1)
