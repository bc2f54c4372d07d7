"""Peak memory of a piece of work, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path('/proc/self/status'), Path('/proc/self/clear_refs')


def peak_memory(work: Callable[..., Any], *arguments: Any) -> float:
    """The most memory in MB that a fresh process has in use which does ``work``; a function of a module's top level."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_peak, (work, arguments))


def forget_peak() -> None:
    """Let the peak of this process count from here: called within ``work``, behind what is to be left out of it.

    What was freed before is handed back to the system, where the C library can.
    """
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
        trim(0)
    CLEAR.write_text('5')


def _peak(work: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    work(*arguments)
    # not ru_maxrss, which a process inherits from the one that started it
    match = re.search(r'VmHWM:\s+(\d+) kB', STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024 / 1e6
