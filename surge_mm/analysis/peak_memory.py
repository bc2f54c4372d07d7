"""Peak memory of a piece of work, in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path('/proc/self/status')


def peak_memory(work: Callable[..., Any], *arguments: Any) -> float:
    """The most memory in MB that a fresh process has in use which does ``work``; a function of a module's top level."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_peak, (work, arguments))


def _peak(work: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    work(*arguments)
    # not ru_maxrss, which a process inherits from the one that started it
    match = re.search(r'VmHWM:\s+(\d+) kB', STATUS.read_text())
    assert match is not None
    return int(match[1]) * 1024 / 1e6
