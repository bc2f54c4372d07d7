_base_ = [
    '../models/fcos-cpu_r18-s.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../datasets/pipelines_320.py',
    '../schedules/adamw_100e.py',
    '../default_runtime.py',
]

model = dict(bbox_head=dict(num_classes=20), test_cfg=dict(nms_pre=1000, max_per_img=100))
train_pipeline = {{_base_.train_pipeline_320}}
test_pipeline = {{_base_.test_pipeline_320}}
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        times=1,
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
        ),
    ),
)
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
