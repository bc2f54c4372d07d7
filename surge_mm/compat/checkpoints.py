"""Resuming from MMEngine's checkpoints while ``torch.load`` stays at ``weights_only=True``.

A pickle is a small program: it names callables and says with what to call them. That is why
PyTorch, since 2.6, runs only those on a safe list unless told otherwise, and why MMEngine 0.10 can
no longer resume: its checkpoints hold the training log, ``HistoryBuffer`` objects full of NumPy
arrays. Turning the check off would let any checkpoint from the internet run code. Here the list is
extended instead, and no further than needed: the names that a checkpoint uses are served by
stand-ins which can make what MMEngine saves, and nothing else.

==========================  ===============================  ==================================
name in the checkpoint      what it could do                 what its stand-in does
==========================  ===============================  ==================================
``builtins.getattr``        reach any function from any      HistoryBuffer's own statistics
                            other (``__globals__``)          methods
``numpy.ndarray``           build Python objects from the    arrays of numbers and strings
                            file's raw bytes
``numpy.dtype``             corrupt its own flags, through   the same types, with a byte order
                            its pickled state
``...multiarray.scalar``    build objects from raw bytes     numbers and strings
==========================  ===============================  ==================================
"""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'mean', 'current')


def allow_mmengine_checkpoints() -> None:
    """Put what an MMEngine checkpoint holds on PyTorch's safe list, for the whole process."""
    safe: list[Any] = [
        HistoryBuffer,
        (_statistics_method, 'builtins.getattr'),
        (_Array, 'numpy.ndarray'),
        (_DType, 'numpy.dtype'),
        _Array,  # also by their own names, lest a user's entry for NumPy's displace them
        _DType,
    ]
    for package in ('numpy.core', 'numpy._core'):  # NumPy 1 and NumPy 2
        safe.append((_reconstruct, f'{package}.multiarray._reconstruct'))
        safe.append((_scalar, f'{package}.multiarray.scalar'))
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: Any, name: Any) -> Callable[..., Any]:
    """Stands for ``getattr``."""
    if owner is not HistoryBuffer or not isinstance(name, str) or name not in _STATISTICS:
        raise UnpicklingError(
            f'the checkpoint asks for getattr({owner!r}, {name!r}); only '
            f'{", ".join(_STATISTICS)} of HistoryBuffer are allowed'
        )
    method: Callable[..., Any] = vars(HistoryBuffer)[name]
    return method


class _DType:
    """Stands for ``numpy.dtype``: types without pointers, given by their code, as in 'f8'."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in 'biufcSU':
            raise UnpicklingError(
                f'the checkpoint holds NumPy data of type {code!r}; only numbers and strings are '
                'allowed'
            )
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _real(dtype: _DType | np.dtype) -> np.dtype:
    """The type meant. Where a user has put ``numpy.dtype`` itself on the list, it may come real."""
    return dtype.dtype if isinstance(dtype, _DType) else dtype


class _Array(np.ndarray):
    """Stands for ``numpy.ndarray``: filled by a pickle's state, pickled as a plain array."""

    def __new__(cls, *args: Any) -> '_Array':
        raise UnpicklingError('the checkpoint makes a NumPy array otherwise than NumPy saves it')

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, _real(dtype), is_fortran, data))

    def __reduce__(self) -> Any:
        return np.array(self).__reduce__()


def _reconstruct(subtype: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Stands for NumPy's function of this name: an empty array, to be filled by its state."""
    return np.ndarray.__new__(_Array, 0)


def _scalar(dtype: _DType | np.dtype, data: bytes) -> Any:
    """Stands for NumPy's ``scalar``: the number or string whose bytes are given."""
    return np.frombuffer(data, _real(dtype), count=1)[0]
