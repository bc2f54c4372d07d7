# ResNet-18 for CIFAR as in ReCU: a shortcut around two convolutions, without parameters.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='surge_mm.SurgeResNet',
        depth=18,
        stem='cifar',
        shortcut='pad',
        shortcut_around='block',
        out_indices=(3,),
        act_cfg=dict(type='Hardtanh'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1,),
    ),
)
