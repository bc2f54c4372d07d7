# DPGC: the auxiliary branch with a fixed scale factor.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(scale=0.1))
