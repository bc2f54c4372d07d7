"""Threads that share the work of one layer."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Recording(threading.local):
    """Where the calls of compiled loops by this thread are recorded.

    Attributes:
        recorder (Recorder, optional): A :class:`surge_mm.deploy.capture.recorder.Recorder`. None if they are not.
    """

    recorder: Any = None


recording = Recording()


class Team(NamedTuple):
    """Threads that run one job together.

    Attributes:
        run (Callable): ``run(job, threads)`` runs a job, an array of C, on so many threads.
        own_number (int): Address of the C function that returns the number of the calling thread; 0 without one.
    """

    run: Callable[[Any, int], None]
    own_number: int


@cache
def single_thread(function: int) -> Team:
    """Return the team of the calling thread alone.

    Args:
        function (int): Address of the C function that works on a job.
    """
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    return Team(lambda job, threads: call(job), 0)


@cache
def thread_team(function: int) -> Team:
    """Return a team of threads: PyTorch's own if it uses GNU OpenMP, as on Linux, else threads of Python.

    With a second team beside PyTorch's, each would wait for the cores of the other.

    Args:
        function (int): Address of the C function that works on a job.
    """
    found = gnu_openmp()
    if found is None:
        return Team(partial(_run_in_python_threads, function), 0)
    parallel, own_number = found
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return Team(lambda job, threads: parallel(function, job, threads, 0), address_of(own_number))


@cache
def gnu_openmp() -> tuple[Any, Any] | None:
    """Return ``GOMP_parallel`` and ``omp_get_thread_num`` of the GNU OpenMP that PyTorch uses, or None.

    Wheels of PyTorch bring it along, some under a name of their own; other builds use that of the system.
    """
    folder = Path(torch.__file__).parent
    bundled = [*folder.glob('lib/libgomp*'), *folder.parent.glob('torch.libs/libgomp*')]
    for name in [*map(str, bundled), 'libgomp.so.1']:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(name)
            return library.GOMP_parallel, library.omp_get_thread_num
    return None


def address_of(function: Any) -> int:
    """Return the address of a function of C."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _run_in_python_threads(function: int, job: Any, threads: int) -> None:
    run = single_thread(function).run
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(run, job, 1) for _ in range(threads - 1)]
        run(job, 1)
    for other in others:
        other.result()
