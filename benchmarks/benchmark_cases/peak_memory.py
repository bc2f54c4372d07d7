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


def peak_memory(function: Callable[..., Any], *arguments: Any) -> float:
    """Run a function in a fresh process and return the peak of its resident memory.

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
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
        trim(0)
    CLEAR_REFS.write_text('5')


def _run_and_read_peak(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    function(*arguments)
    # ru_maxrss would include the parent's peak, which a process inherits
    match = re.search(r'VmHWM:\s+(\d+) kB', STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024 / 1e6
