# STE: the plain binary network, trained by the surrogate gradient alone.
conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=None)
