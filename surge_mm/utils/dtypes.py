"""Dtypes of sums and norms."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if its dtype is narrower, such as float16 under autocast; else ``x`` itself."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
