# The neck is binary too, but for its 1x1 convolutions; the head is not.
_base_ = './retinanet-1bit_r18-light_20e_bccd.py'

model = dict(rules=[dict(name='bbox_head.*', to='keep')])
