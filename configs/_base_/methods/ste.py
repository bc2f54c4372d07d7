# The plain binary network: surrogate gradient only.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=None)
