# Second of two steps. It starts from the last checkpoint of the first step in its default work dir.
_base_ = './reactnet-a_128e-step1_in1k.py'

load_from = 'work_dirs/rsign_reactnet-a_128e-step1_in1k/epoch_128.pth'
