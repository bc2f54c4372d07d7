# The classifier in full precision is the teacher and the start. Train it first.
_base_ = [
    '../models/bert-base.py',
    '../datasets/glue_qnli.py',
    '../schedules/bert-1bit_10e.py',
    '../text_runtime.py',
]

model = dict(
    type='surge_mm.DistilledTextClassifier',
    teacher=dict(
        config='{{ fileDirname }}/../../glue/bert-base_3e_qnli.py',
        checkpoint='work_dirs/bert-base_3e_qnli/epoch_3.pth',
    ),
    init='teacher',
    backbone=dict(init_cfg=None),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(
        custom_keys={
            'activation_scale': dict(lr_mult=0.5, decay_mult=0.0),
            'activation_shift': dict(decay_mult=0.0),
        }
    ),
)
