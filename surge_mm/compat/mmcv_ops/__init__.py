"""Operators of mmcv, computed by torchvision where mmcv has no compiled operators: one module an operator family."""

import sys
from importlib import import_module
from threading import Thread
from typing import Any

import torch
from torch import Tensor


def torchvision_operators() -> Any:
    """Return ``torch.ops.torchvision``, which :mod:`surge_mm._stack` has loaded without importing torchvision.

    Tracers and compilers also need its Python part, with the shapes of outputs and the export to ONNX.
    """
    if torch.compiler.is_compiling():
        import torchvision  # noqa: F401
    elif torch.jit.is_tracing() and 'torchvision' not in sys.modules:
        thread = Thread(target=import_module, args=('torchvision',))  # else the import is traced
        thread.start()
        thread.join()
    return torch.ops.torchvision


def to_full_precision(x: Tensor) -> Tensor:
    """Return ``x`` in float32 if it has half precision, otherwise ``x`` itself."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
