_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_cola.py',
    '../schedules/bert_3e.py',
    '../text_runtime.py',
]
