# The detector in full precision is the teacher and the start. Train it first.
_base_ = './retinanet-1bit_r18-light_40e_bccd.py'

model = dict(
    type='surge_mm.DistilledDetector',
    teacher=dict(
        config='{{ fileDirname }}/../../bccd/retinanet_r18-light_40e_bccd.py',
        checkpoint='work_dirs/retinanet_r18-light_40e_bccd/epoch_40.pth',
    ),
    init='teacher',
)
