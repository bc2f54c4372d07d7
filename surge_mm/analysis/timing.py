"""Timing of alternatives on a machine that other programs may use too."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

STAT, CPUINFO = Path('/proc/stat'), Path('/proc/cpuinfo')


def interleaved_times(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int,
    synchronize: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn, so that the load of other programs affects all of them alike.

    Each round calls every function once.

    Args:
        functions (dict[str, Callable]): the functions to time, by name. They take no arguments.
        rounds (int): number of measured rounds.
        warmup (int): number of rounds before them, which are not measured.
        synchronize (Callable): called after each function, within the measured time, to wait for a
            device, e.g. ``torch.cuda.synchronize``. Defaults to a function that does nothing.
        clock (Callable): returns the time in seconds. ``time.process_time`` counts the CPU time of this process, on
            which the load of other programs has less influence. Defaults to ``time.perf_counter``.

    Returns:
        dict[str, list[float]]: the seconds of each call, ``rounds`` numbers for each name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(warmup + rounds):
        for name, function in functions.items():
            start = clock()
            function()
            synchronize()
            if index >= warmup:
                times[name].append(clock() - start)
    return times


def median_ratio(times: Mapping[str, Sequence[float]], name: str, baseline: str) -> float:
    """Divide the median time of one function by that of another.

    Args:
        times (dict[str, list[float]]): as :func:`interleaved_times` returns them.
        name (str): the function in the numerator.
        baseline (str): the function in the denominator.

    Returns:
        float: the ratio. Below 1, ``name`` is faster than ``baseline``.
    """
    return median(times[name]) / median(times[baseline])


class BackgroundLoad:
    """Average number of CPUs that other programs have used since this object was created.

    A measurement with several threads is valid only while as many CPUs are free. Time that the host of a virtual
    machine takes away counts as used. Linux only: reads ``/proc/stat``.
    """

    def __init__(self) -> None:
        self._start, self._busy = time.perf_counter(), _busy_seconds()

    def cpus(self) -> float:
        """Return the average number of CPUs in use by other programs."""
        elapsed = time.perf_counter() - self._start
        return max(0.0, (_busy_seconds() - self._busy) / elapsed)

    def warning(self, threads: int) -> str:
        """Describe a load that makes measured times too long.

        Args:
            threads (int): the number of threads that were measured.

        Returns:
            str: one sentence, or ``''`` if each thread had a CPU of its own.
        """
        used, available = self.cpus(), os.cpu_count() or 1
        if used + threads <= available + 0.25:
            return ''
        return (
            f'warning: other programs used {used:.1f} of {available} CPUs during the measurement, which left less '
            f'than one CPU for each of {threads} threads. The times are too long; measure again on an idle machine.'
        )


def _busy_seconds() -> float:
    """Return the CPU seconds of all programs except this process and its finished children."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, STAT.read_text().split(maxsplit=9)[1:9]
    )
    total = (user + nice + system + irq + softirq + steal) / os.sysconf('SC_CLK_TCK')
    return total - sum(os.times()[:4])


def cpu_name() -> str:
    """Return the model name of the CPU, or its architecture where the system does not tell."""
    text = CPUINFO.read_text() if CPUINFO.is_file() else ''
    match = re.search(r'model name\s*:\s*(.+)', text)
    return match[1] if match else platform.machine()
