"""Imports of MMDetection without its optional packages, for programs that only run a detector."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

OPTIONAL = ('mmpretrain', 'seaborn', 'sklearn')
"""Packages that MMDetection imports if they are installed, and works without."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """Hide the optional packages of MMDetection while it is imported, for a faster start in less memory.

    MMPretrain, which brings torchvision and the compiler of PyTorch, and scikit-learn take half of the time of an
    import of MMDetection. It uses them for re-identification and for the interpolation of tracks alone. These parts
    are then as if the packages were not installed, until the process ends. Packages that are imported already stay.

    Example:
        >>> with lean_imports():
        ...     detector = Detector('detector.safetensors')
    """
    hidden = [name for name in OPTIONAL if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import is an ImportError
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
