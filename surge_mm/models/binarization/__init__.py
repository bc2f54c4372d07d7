"""Binarization of any model by rules."""
