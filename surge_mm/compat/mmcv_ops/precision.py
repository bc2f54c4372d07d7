"""The precision in which the stand-ins for mmcv's operators compute."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` in float32 if it is in half precision, else ``x`` itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
