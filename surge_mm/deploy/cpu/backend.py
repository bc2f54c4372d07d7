"""The engine of packed layers on this machine: compiled loops, or plain PyTorch."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch
from torch import Tensor

from surge_mm.utils.logging import log

PLAIN = 'plain PyTorch'
INSTRUCTION_SETS = {
    'avx512vpopcntdq': 'AVX-512 VPOPCNTDQ',
    'avx512f': 'AVX-512',
    'avx2': 'AVX2',
    'sse4.2': 'SSE4.2',
    'neon': 'NEON',
}
"""Features of a CPU by LLVM's names, the fastest first."""


@cache
def kernels() -> Any:
    """Return the module :mod:`.kernels`, compiled for this CPU; None without Numba or on a big-endian machine."""
    if sys.byteorder != 'little':
        return None
    try:
        from surge_mm.deploy.cpu import kernels as compiled
    except ImportError:
        log(
            'packed layers run in plain PyTorch, right but slow: Numba is not installed. pip install "surge_mm[deploy]"'
        )
        return None
    if not compiled.WIDE:
        log(
            f'packed layers run with {_best_of(compiled.FEATURES)}, right but slower than with AVX-512, which this CPU '
            'does not have'
        )
    return compiled


def can_run(x: Tensor) -> bool:
    """Return whether the compiled loops take an input: float32 on a CPU, and no graph of PyTorch is being made.

    A graph of ``torch.export``, ``torch.compile`` or ``torch.jit.trace`` cannot contain the loops. Operators of PyTorch
    give equal outputs.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return x.is_cpu and x.dtype == torch.float32 and kernels() is not None


def instruction_set() -> str:
    """Return the name of the vector instructions that packed layers use on this machine, such as ``'AVX2'``."""
    compiled = kernels()
    return PLAIN if compiled is None else _best_of(compiled.FEATURES)


def _best_of(features: dict[str, bool]) -> str:
    named = (name for key, name in INSTRUCTION_SETS.items() if features.get(key))
    return next(named, 'no vectors')
