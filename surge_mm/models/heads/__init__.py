"""Heads of detectors that differ from the hosts'."""

from surge_mm.models.heads.ssd_head import SSDHead

__all__ = ['SSDHead']
