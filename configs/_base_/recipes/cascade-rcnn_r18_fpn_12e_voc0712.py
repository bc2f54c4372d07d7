_base_ = [
    '../models/cascade-rcnn_r18_fpn.py',
    'mmdet::_base_/datasets/voc0712.py',
    '../schedules/ida-det_12e.py',
    '../default_runtime.py',
]

model = dict(
    roi_head=dict(
        # A list is replaced as a whole: these are the heads of the base with 20 classes.
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=20,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0.0, 0.0, 0.0, 0.0],
                    target_stds=[std, std, 2 * std, 2 * std],
                ),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
            )
            for std in (0.1, 0.05, 0.0333)
        ]
    )
)
