# The detector in full precision is the teacher and the start. Train it first.
_base_ = './fcos-cpu-1bit_r18-s_10e_digits.py'

model = dict(
    type='surge_mm.DistilledDetector',
    teacher=dict(
        config='{{ fileDirname }}/../../cpu/fcos-cpu_r18-s_10e_digits.py',
        checkpoint='work_dirs/fcos-cpu_r18-s_10e_digits/epoch_10.pth',
    ),
    init='teacher',
)
