# Full precision, without binary layers.
conv_cfg = None
