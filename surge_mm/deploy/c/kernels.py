"""C code of the convolutions."""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import files

SOURCES = {'binary': 'binary.c', 'int8': 'int8.c', 'float': 'real.c'}
"""File of each kind of convolution."""


def kernels(kinds: Collection[str]) -> str:
    """Return the C code of kinds of convolutions, which follows that of ``layers.h``.

    Args:
        kinds (Collection[str]): Of ``'binary'``, ``'int8'`` and ``'float'``; others are left out.
    """
    folder = files('surge_mm.deploy.c') / 'sources'
    names = [name for kind, name in SOURCES.items() if kind in kinds]
    return '\n'.join((folder / name).read_text() for name in ('windows.c', *names))
