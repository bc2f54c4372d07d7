"""Data: the demo set of handwritten digits, and the check of a config's data before training."""
