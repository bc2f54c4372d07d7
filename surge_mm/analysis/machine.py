"""How busy the machine is, without this program."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path('/proc/stat')


class Others:
    """The CPUs that other programs keep busy, from now on: whose figures of several threads need free ones."""

    def __init__(self) -> None:
        self._began, self._busy = time.perf_counter(), _busy_seconds()

    def cpus(self) -> float:
        """How many on average; what a virtual machine's host takes away counts too."""
        wall = time.perf_counter() - self._began
        return max(0.0, (_busy_seconds() - self._busy) / wall)


def _busy_seconds() -> float:
    """CPU seconds of all programs but this one and its children that have ended."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, STAT.read_text().split(maxsplit=9)[1:9]
    )
    everyone = (user + nice + system + irq + softirq + steal) / os.sysconf('SC_CLK_TCK')
    return everyone - sum(os.times()[:4])
