"""Threads that share the work of one layer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from surge_mm.deploy.cpu.backend import kernels


class Team(NamedTuple):
    """Threads that run one job together.

    Attributes:
        run (Callable): ``run(job, threads)`` runs a :class:`surge_mm.deploy.cpu.job.Job` on so many threads.
        own_number (int): Address of the C function that returns the number of the calling thread; 0 without one.
    """

    run: Callable[[Any, int], None]
    own_number: int


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
