"""Peak memory of a function, measured in a process of its own. Linux only."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

STATUS, CLEAR_REFS = Path('/proc/self/status'), Path('/proc/self/clear_refs')
M_MMAP_THRESHOLD, THRESHOLD = -3, 2**18  # of glibc's mallopt; bytes


def peak_memory(function: Callable[..., Any], *arguments: Any) -> float:
    """Run a function in a fresh process and return the peak of its resident memory.

    Blocks of at least 256 KiB go back to the system as soon as they are freed, so the peak is what the function needs
    at once and repeats to 1 MB. Otherwise glibc keeps freed blocks of up to 32 MB for later use, and the peaks of equal
    processes differ by up to 7 %.

    Args:
        function (Callable): a function at the top level of a module.
        arguments (Any): its positional arguments, which can be pickled.

    Returns:
        float: the peak in MB (10^6 bytes), Python and PyTorch included.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(_run_and_read_peak, function, arguments).result()


def reset_peak_memory() -> None:
    """Restart the measurement of :func:`peak_memory`, called by the measured function after its preparations.

    Memory that was freed before is returned to the system where the C library can.
    """
    gc.collect()
    if trim := _of_c_library('malloc_trim'):
        trim(0)
    CLEAR_REFS.write_text('5')


def _run_and_read_peak(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    if mallopt := _of_c_library('mallopt'):
        mallopt(M_MMAP_THRESHOLD, THRESHOLD)
    function(*arguments)
    # ru_maxrss would include the parent's peak, which a process inherits
    match = re.search(r'VmHWM:\s+(\d+) kB', STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024 / 1e6


def _of_c_library(name: str) -> Any:
    """Return a function of the C library, or None if it is not glibc, which alone has it."""
    return getattr(ctypes.CDLL(None), name, None)
