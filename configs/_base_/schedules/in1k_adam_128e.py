# The recipe of ReActNet for each of its two steps: Adam, linear decay to 0.
max_epochs = 128
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=2.5e-3))
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=0.0, end=max_epochs, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=512)
