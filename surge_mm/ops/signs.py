"""The sign of every binary layer."""

from __future__ import annotations

import torch
from torch import Tensor


def is_exporting() -> bool:
    """Return whether ``torch.jit.trace``, ``torch.export`` or an exporter that uses them records the operators."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()


def sign(x: Tensor) -> Tensor:
    """Return ``+1`` where the sign bit of ``x`` is clear, else ``-1``: never 0, same shape and dtype.

    ``sign(0) = +1`` and ``sign(-0.0) = -1``: the sign *bit* decides, as in an engine that packs 64 signs into a word.
    (A comparison ``x >= 0`` takes 17 times as long on a CPU.) Traced and exported, it is written in operators that all
    exporters have. Every NaN is then +1, as ``float('nan')`` is here.
    """
    if is_exporting():  # exporters lack copysign
        return torch.where(x + 1 / x < 0, -1.0, 1.0).to(x.dtype)  # 1 / x has the sign of a zero
    return torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), x)
