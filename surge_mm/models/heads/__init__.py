"""Heads of detectors that differ from the hosts'."""

from .ssd_head import SSDHead

__all__ = ['SSDHead']
