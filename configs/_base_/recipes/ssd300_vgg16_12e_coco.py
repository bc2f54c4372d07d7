# SSD300 on VGG-16 with the schedule of BiDet.
_base_ = [
    'mmdet::_base_/models/ssd300.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../datasets/ssd300_pipelines.py',
    '../schedules/bidet_12e.py',
    '../default_runtime.py',
]

model = dict(bbox_head=dict(type='surge_mm.SSDHead'))
train_pipeline = {{_base_.ssd300_train_pipeline}}
test_pipeline = {{_base_.ssd300_test_pipeline}}
train_dataloader = dict(batch_size=32, batch_sampler=None, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
