_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_qnli.py',
    '../schedules/bert_3e.py',
    '../text_runtime.py',
]
