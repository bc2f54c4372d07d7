# SST-2 from scratch on a CPU. The validation has whole sentences held out of the training file, to make choices on; the
# test has the dev file.
_base_ = [
    '../models/bert-mini.py',
    '../datasets/glue_sst2.py',
    '../schedules/bert-mini_1e.py',
    '../text_runtime.py',
]

train_dataloader = dict(batch_size=64, dataset=dict(split='fit'))
val_dataloader = dict(batch_size=128, dataset=dict(split='holdout'))
test_dataloader = dict(batch_size=128, dataset=dict(split='dev'))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'activation_scale': dict(lr_mult=0.1, decay_mult=0.0),
            'activation_shift': dict(decay_mult=0.0),
        }
    )
)
