"""Operators of mmcv, computed by torchvision where mmcv has no compiled operators: one module an operator family."""

import torch
from torch import Tensor


def to_full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it has half precision, otherwise ``x`` itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
