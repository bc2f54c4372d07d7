"""Validation of config and data before training."""
