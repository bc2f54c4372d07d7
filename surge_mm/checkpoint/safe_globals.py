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
``...HistoryBuffer``    set its methods, also those of   numbers of a log alone
                        every other log of the process
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
        (_Log, f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'),
        (_statistics_method, 'builtins.getattr'),
        (_Array, 'numpy.ndarray'),
        (_DType, 'numpy.dtype'),
        _Log,  # also by their own names, lest a user's entry for the real ones displace them
        _Array,
        _DType,
    ]
    for package in ('numpy.core', 'numpy._core'):  # NumPy 1 and NumPy 2
        safe.append((_reconstruct, f'{package}.multiarray._reconstruct'))
        safe.append((_scalar, f'{package}.multiarray.scalar'))
    torch.serialization.add_safe_globals(safe)


def _statistics_method(owner: Any, name: Any) -> Callable[..., Any]:
    """Stands for ``getattr``."""
    known = owner is _Log or owner is HistoryBuffer
    if not known or type(name) is not str or name not in _STATISTICS:
        asked = f'{_name_of(owner)}, {name if type(name) is str else _name_of(name):.50}'
        raise UnpicklingError(
            f'the checkpoint asks for getattr({asked}); only {", ".join(_STATISTICS)} of '
            'HistoryBuffer are allowed'
        )
    method: Callable[..., Any] = vars(HistoryBuffer)[name]
    return method


def _name_of(value: Any) -> str:
    """Never the repr: that of a list of lists of lists can be longer than any memory."""
    return str(getattr(value, '__name__', f'a {type(value).__name__}'))[:50]


class _Log(HistoryBuffer):
    """Stands for ``HistoryBuffer``: its numbers come from the checkpoint, its methods do not."""

    def __init__(self, *args: Any) -> None:
        raise UnpicklingError('the checkpoint makes a log otherwise than MMEngine saves it')

    def __setstate__(self, state: dict[str, Any]) -> None:
        logs, counts = (np.array(state[key]) for key in ('_log_history', '_count_history'))
        longest = state['max_length']
        if type(longest) is not int or logs.shape != counts.shape or logs.ndim != 1:
            raise UnpicklingError('the checkpoint has a log whose values and counts do not match')
        if not all(part.dtype.kind in 'biuf' for part in (logs, counts)):
            raise UnpicklingError('the checkpoint has a log of other things than numbers')
        self.__class__ = HistoryBuffer
        self._set_default_statistics()
        self.max_length, self._log_history, self._count_history = longest, logs, counts


class _DType:
    """Stands for ``numpy.dtype``: types without pointers, given by their code, as in 'f8'."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        dtype = np.dtype(code) if isinstance(code, str) else None
        if dtype is None or dtype.kind not in 'biufcSU':
            raise UnpicklingError(
                f'the checkpoint holds NumPy data of type {_name_of(code) if dtype is None else dtype!s:.50}; '
                'only numbers and strings are allowed'
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
        if _real(dtype).itemsize == 0 and 0 not in shape:
            raise UnpicklingError(
                'the checkpoint holds a NumPy array of strings without characters'
            )
        super().__setstate__((version, shape, _real(dtype), is_fortran, data))

    def __reduce__(self) -> Any:
        return np.array(self).__reduce__()


def _reconstruct(subtype: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Stands for NumPy's function of this name: an empty array, to be filled by its state."""
    return np.ndarray.__new__(_Array, 0)


def _scalar(dtype: _DType | np.dtype, data: bytes) -> Any:
    """Stands for NumPy's ``scalar``: the number or string whose bytes are given."""
    return np.frombuffer(data, _real(dtype), count=1)[0]
