"""Threads that share the work of one layer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch

from surge_mm.deploy.cpu.backend import kernels

PARTS = 2
"""Parts of a layer per thread. With several, a thread that is held up delays no other."""
WORTH_THREADS = 1 << 16
"""Operations below which a layer runs on one thread: waking up another one would take longer."""


class Team(NamedTuple):
    """Threads that run one job together.

    Attributes:
        run (Callable): ``run(job, threads)`` runs a :class:`surge_mm.deploy.cpu.job.Job` on so many threads.
        own_number (int): Address of the C function that returns the number of the calling thread; 0 without one.
    """

    run: Callable[[Any, int], None]
    own_number: int


class Schedule(NamedTuple):
    """How the work of a layer is divided among threads. The counts are fields of a job of the same names.

    Attributes:
        team (Team): The threads.
        threads (int): Their number.
        packed_parts (int): Parts into which the packing of sign bits is divided.
        unit_parts (int): Parts into which the convolution is divided.
        pixels (int): Pixels whose signs are packed, of all images.
        units (int): Units that are convolved, of all images.
    """

    team: Team
    threads: int
    packed_parts: int
    unit_parts: int
    pixels: int
    units: int

    def counters(self) -> list[int]:
        """Return the first part to pack and the first to convolve of each thread, ``2 * threads`` numbers."""
        counters = []
        for owner in range(self.threads):
            counters.append(owner * self.packed_parts // self.threads)
            counters.append(owner * self.unit_parts // self.threads)
        return counters


def number_of_threads() -> int:
    """Return PyTorch's number of threads."""
    return torch.get_num_threads()


def make_schedule(threads: int, pixels: int, units: int, operations: int) -> Schedule:
    """Divide the work of a layer.

    Args:
        threads (int): Threads that may be used.
        pixels (int): Pixels whose signs are to be packed, of all images.
        units (int): Units to convolve, of all images.
        operations (int): Operations on words or numbers that the work consists of.
    """
    if operations < WORTH_THREADS:
        threads = 1
    parts = PARTS * threads
    team = single_thread() if threads == 1 else thread_team()
    return Schedule(team, threads, min(pixels, parts), min(units, parts), pixels, units)


@cache
def single_thread() -> Team:
    """Return the team of the calling thread alone."""
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(kernels().run_parts.address)
    return Team(lambda job, threads: call(job), 0)


@cache
def thread_team() -> Team:
    """Return a team of threads: PyTorch's own if it uses GNU OpenMP, as on Linux, else threads of Python.

    With a second team beside PyTorch's, each would wait for the cores of the other.
    """
    function = kernels().run_parts.address
    try:
        library = ctypes.CDLL('libgomp.so.1')
        parallel, own_number = library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, AttributeError):
        return Team(_run_in_python_threads, 0)
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    address = ctypes.cast(own_number, ctypes.c_void_p).value
    return Team(lambda job, threads: parallel(function, job, threads, 0), address or 0)


def _run_in_python_threads(job: Any, threads: int) -> None:
    run = single_thread().run
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(run, job, 1) for _ in range(threads - 1)]
        run(job, 1)
    for other in others:
        other.result()
