# A control of SURGE: the straight-through estimator clipped at the root mean square of the layer's input.
_base_ = './ste.py'

conv_cfg = dict(activation=dict(type='STESign', window='rms', k=1))
