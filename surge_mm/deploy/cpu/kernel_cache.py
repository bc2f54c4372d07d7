"""Cache of compiled loops on disk, keyed by all the sources that they are made of.

Numba's own cache compares a function with the file that it is defined in. The machine code of :mod:`.kernels` also
depends on the modules that generate LLVM IR: after an update of one of them, Numba would load the old code. Numba also
raises an error where a file of the cache is damaged or cannot be written; here, the loops are compiled without it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba import njit
from numba.core import caching, ccallback, sigutils
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]  # compiled

from surge_mm.utils.logging import warn

SOURCES = (
    'bitpacking.py',
    'byte_kernels.py',
    'byte_tile_kernels.py',
    'codegen/byte_counts.py',
    'codegen/byte_tiles.py',
    'codegen/epilogue.py',
    'codegen/loops.py',
    'codegen/memory.py',
    'codegen/popcounts.py',
    'codegen/quantization.py',
    'codegen/table_counts.py',
    'codegen/table_epilogue.py',
    'codegen/tiles.py',
    'codegen/vectors.py',
    'job.py',
    'kernels.py',
    'operator_job.py',
    'operator_kernels.py',
    'table_kernels.py',
)
FOLDER = Path(__file__).parent


WAY_OUT = (
    'each process compiles them, which takes some seconds. Set NUMBA_CACHE_DIR to a folder with free space that you '
    'may write to'
)


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
        if Path(py_file) not in [FOLDER / name for name in SOURCES]:
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


@cache
def add_runtime_symbols() -> None:
    """Let LLVM find the functions of Numba's runtime, as ``rtsys.initialize``.

    Numba also prepares a compilation before it loads a function, which takes 35 MB and twice the time of the load, and
    compiles functions for the linking of others, which takes 20 MB.
    """
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith('_') else f'NRT_{name}', address)


class KernelCache(caching.FunctionCache):
    """Numba's cache of a function. A file that cannot be read or written costs a compilation, and a line in the log.

    The names of the files contain the stamp. Numba writes the index before the code: with a name for all stamps, the
    index of this version would lead to the code of an earlier one until that is written, or for good if it cannot be.

    Args:
        function (Callable): The function.
    """

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        name = hashlib.sha256(repr(stamp).encode()).hexdigest()[:16]
        self._cache_file = caching.IndexDataCacheFile(
            self._cache_path, f'{self._impl.filename_base}-{name}', stamp
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function, or None where there is none or its files are damaged.

        Args:
            sig (Any): Signature of the function.
            target_context (Any): Numba's description of the CPU.
        """
        try:
            add_runtime_symbols()
            return self._load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle may raise anything
            _log_once(f'damaged loops in {self.cache_path} ({_reason(error)}) are compiled again')
            with contextlib.suppress(OSError):
                self.flush()  # the next save reads the index
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled function, if its folder can be written to.

        Args:
            sig (Any): Signature of the function.
            data (Any): The compiled function.
        """
        try:
            super().save_overload(sig, data)
        # a full disk, or an index that is damaged and cannot be replaced
        except Exception as error:
            _log_once(
                f'compiled loops cannot be kept in {self.cache_path} ({_reason(error)}): {WAY_OUT}'
            )


def compiled(function: Callable) -> Any:
    """Compile a function at its first call, with a cache on disk if a folder for it is writable.

    Args:
        function (Callable): The function.

    Returns:
        Any: Numba's dispatcher.
    """
    dispatcher: Any = njit(nogil=True)(function)
    dispatcher._cache = _cache_of(function)
    return dispatcher


def compiled_callback(signature: Any) -> Callable[[Callable], Any]:
    """Return a decorator that compiles a C callback at once, with a cache on disk if a folder for it is writable.

    Args:
        signature (Any): Numba's signature of the function.
    """

    def decorate(function: Callable) -> Any:
        types = sigutils.normalize_signature(signature)
        callback: Any = ccallback.CFunc(function, types, locals={}, options={})
        callback._cache = _cache_of(function)
        callback.compile()
        return callback

    return decorate


def _cache_of(function: Callable) -> Any:
    install_locators()
    try:
        return KernelCache(function)
    except RuntimeError:
        _log_once(f'compiled loops are not kept, no folder for them is writable: {WAY_OUT}')
        return caching.NullCache()


def _reason(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'


@cache
def _log_once(message: str) -> None:
    warn(message)
