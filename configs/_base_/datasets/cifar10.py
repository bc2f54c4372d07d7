# The official CIFAR-10 in data/cifar10/cifar-10-batches-py, augmented in whole batches on the training device.
data_preprocessor = dict(
    type='surge_mm.BatchAugmentPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[62.9932, 62.0887, 66.7049],
)
data_root = 'data/cifar10'
loader = dict(num_workers=0, collate_fn=dict(type='surge_mm.whole_batch'))
train_dataloader = dict(
    batch_size=256,
    dataset=dict(type='surge_mm.CIFAR10Tensor', data_root=data_root, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    **loader,
)
val_dataloader = dict(
    batch_size=500,
    dataset=dict(type='surge_mm.CIFAR10Tensor', data_root=data_root, split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    **loader,
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
