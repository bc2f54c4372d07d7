# DPGC with a fixed scale.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(scale=0.1))
