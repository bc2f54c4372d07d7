_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_sst2.py',
    '../schedules/bert_3e.py',
    '../text_runtime.py',
]
