# Binarize the neck too, except its 1x1 convolutions. The head stays in full precision.
_base_ = './retinanet-1bit_r18-light_20e_bccd.py'

model = dict(rules=[dict(name='bbox_head.*', to='keep')])
