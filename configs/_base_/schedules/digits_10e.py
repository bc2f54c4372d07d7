# AdamW with cosine decay to 0 over 10 epochs. Norms and biases have no weight decay, which makes many groups of
# parameters: fused takes a third of the time for their update on a CPU. Its rounding is another one.
max_epochs = 10
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0, convert_to_iter_based=True)
]
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=8)
