_base_ = [
    '../models/fcos-cpu_r18-s.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '../datasets/pipelines_320.py',
    '../schedules/adamw_100e.py',
    '../default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=80), test_cfg=dict(nms_pre=1000, max_per_img=100))
train_pipeline = {{_base_.train_pipeline_320}}
test_pipeline = {{_base_.test_pipeline_320}}
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
