# SSD300 on VGG-16 with the schedule of BiDet.
_base_ = [
    'mmdet::_base_/models/ssd300.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../datasets/ssd300_pipelines.py',
    '../schedules/bidet_12e.py',
    '../default_runtime.py',
]

model = dict(
    bbox_head=dict(
        type='surge_mm.SSDHead',
        num_classes=20,
        anchor_generator=dict(basesize_ratio_range=(0.2, 0.9)),
    )
)
train_pipeline = {{_base_.ssd300_train_pipeline}}
test_pipeline = {{_base_.ssd300_test_pipeline}}
train_dataloader = dict(
    batch_size=32,
    batch_sampler=None,
    dataset=dict(
        dataset=dict(
            datasets=[
                dict(
                    type='VOCDataset',
                    data_root='data/VOCdevkit/',
                    ann_file=f'{year}/ImageSets/Main/trainval.txt',
                    data_prefix=dict(sub_data_root=f'{year}/'),
                    filter_cfg=dict(filter_empty_gt=True, min_size=32),
                    pipeline=train_pipeline,
                )
                for year in ('VOC2007', 'VOC2012')
            ]
        )
    ),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
