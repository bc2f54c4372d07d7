# The classifier in full precision is the teacher and the start. Train it first.
_base_ = [
    '../models/bert-base-1bit.py',
    '../datasets/glue_qqp.py',
    '../schedules/bert-1bit_5e.py',
    '../text_runtime.py',
]

model = dict(
    teacher=dict(
        config='{{ fileDirname }}/../../glue/bert-base_3e_qqp.py',
        checkpoint='work_dirs/bert-base_3e_qqp/epoch_3.pth',
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(custom_keys={'activation_scale': dict(lr_mult=0.5)}),  # 1e-4
)
