"""Packed models as files."""
