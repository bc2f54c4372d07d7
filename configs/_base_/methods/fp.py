# The full-precision network of the same structure.
conv_cfg = None
