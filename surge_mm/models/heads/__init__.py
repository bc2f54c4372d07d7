"""Detection heads."""

from surge_mm.models.heads.ssd_head import SSDHead

__all__ = ['SSDHead']
