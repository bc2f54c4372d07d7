"""Detection heads."""

from surge_mm.models.heads.fcos_sepbn_head import FCOSSepBNHead
from surge_mm.models.heads.ssd_head import SSDHead

__all__ = ['FCOSSepBNHead', 'SSDHead']
