# ResNet-34 for ImageNet with a shortcut around every binary convolution.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='surge_mm.SurgeResNet', depth=34, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)
