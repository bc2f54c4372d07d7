# The classifier in full precision is the teacher and the start. Train it first.
_base_ = './minilm_2e_sst2-20k.py'

model = dict(
    type='surge_mm.DistilledTextClassifier',
    teacher=dict(
        config='{{ fileDirname }}/../../glue_mini/minilm_2e_sst2-20k.py',
        checkpoint='work_dirs/minilm_2e_sst2-20k/epoch_2.pth',
    ),
    init='teacher',
    backbone=dict(init_cfg=None),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys={
            'activation_scale': dict(lr_mult=0.2, decay_mult=0.0),
            'activation_shift': dict(decay_mult=0.0),
        }
    ),
)
