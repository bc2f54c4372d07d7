# VGG-Small for CIFAR.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='surge_mm.SurgeVGGSmall'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=8192,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1,),
    ),
)
