"""Memory of the process."""

import ctypes
import sys


def return_free_memory() -> None:
    """Return the memory that the process has freed to the operating system, where its C library can: glibc."""
    if sys.platform == 'linux':
        trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # absent in musl
        if trim is not None:
            trim(0)
