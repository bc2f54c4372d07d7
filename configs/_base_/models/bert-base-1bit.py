# BERT-base with a teacher, from which it starts. Recipes name the teacher.
_base_ = './bert-base.py'

model = dict(type='surge_mm.DistilledTextClassifier', init='teacher', backbone=dict(init_cfg=None))
