# ResNet-20 for CIFAR as in ReCU: a shortcut around every convolution, without parameters.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='surge_mm.SurgeResNet',
        depth=20,
        base_channels=16,
        num_stages=3,
        stem='cifar',
        shortcut='pad',
        out_indices=(2,),
        act_cfg=dict(type='Hardtanh'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1,),
    ),
)
