# The last of three steps: the classifier with 2-bit activations is the teacher and the start. Train it first.
_base_ = './bert-base-1bit_10e_qnli.py'

model = dict(
    teacher=dict(
        config='{{ fileDirname }}/../../glue/bit-2bit_bert-base-1bit_10e_qnli.py',
        checkpoint='work_dirs/bit-2bit_bert-base-1bit_10e_qnli/epoch_10.pth',
    )
)
