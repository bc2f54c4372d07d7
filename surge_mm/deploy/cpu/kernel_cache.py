"""Cache of compiled loops on disk, keyed by all the sources that they are made of.

Numba's own cache compares a function with the file that it is defined in. The machine code of :mod:`.kernels` also
depends on the modules that generate LLVM IR: after an update of one of them, Numba would load the old code.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from numba.core import caching

SOURCES = ('job.py', 'kernels.py', 'memory_intrinsics.py', 'tile_codegen.py', 'vector_codegen.py')
FOLDER = Path(__file__).parent


@cache
def source_hash() -> str:
    """Return the SHA-256 of all sources of the compiled loops."""
    found = hashlib.sha256()
    for name in SOURCES:
        source = (FOLDER / name).read_bytes()
        found.update(f'{name} {len(source)}\n'.encode() + source)
    return found.hexdigest()


class _StampOfAllSources:
    """Mixin of Numba's cache locators: for the modules of :data:`SOURCES`, the stamp is :func:`source_hash`."""

    def get_source_stamp(self) -> str:
        return source_hash()

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        file = Path(py_file)
        if file.parent != FOLDER or file.name not in SOURCES:
            return None  # Numba goes on to its own locators
        return super().from_function(py_func, py_file)  # type: ignore[misc]


LOCATORS: list[Any] = [
    type(locator.__name__, (_StampOfAllSources, locator), {})
    for locator in caching.CacheImpl._locator_classes
]
"""Numba's locators, of ``NUMBA_CACHE_DIR``, ``__pycache__`` and the user's cache folder, with the other stamp."""


def install_locators() -> None:
    """Have Numba ask :data:`LOCATORS` first where to cache a function."""
    found = caching.CacheImpl._locator_classes
    found[:0] = [locator for locator in LOCATORS if locator not in found]
