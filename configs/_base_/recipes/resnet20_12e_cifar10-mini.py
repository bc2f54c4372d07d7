# A part of CIFAR-10 for a CPU: the first 20,000 training images, averaged to 16x16 pixels, for 12 epochs.
_base_ = './resnet20_600e_cifar10.py'

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=1, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=1,
        end=max_epochs,
        T_max=max_epochs - 1,
        eta_min=0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=128)
data_preprocessor = dict(padding=2)
train_dataloader = dict(batch_size=128, dataset=dict(size=16, indices=20000))
val_dataloader = dict(dataset=dict(size=16))
test_dataloader = dict(dataset=dict(size=16))
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1, max_keep_ckpts=1))
