_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_mrpc.py',
    '../schedules/bert_3e.py',
    '../text_runtime.py',
]
