"""Packing of trained models: layers with one bit per weight, and the steps after their sums folded into them."""
