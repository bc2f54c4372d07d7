"""Calls that ``torch.load(weights_only=True)`` must allow for checkpoints of MMEngine.

A pickle names functions and the arguments to call them with. Since 2.6, PyTorch calls only those on a list of safe
globals. MMEngine 0.10 saves the training log, ``HistoryBuffer`` objects with NumPy arrays, which are not on that
list, so it cannot resume. Turning the protection off would let any checkpoint run code, and the original functions are
not safe to allow either. Instead, :data:`SAFE_GLOBALS` maps each name to a replacement that can construct only what
MMEngine saves:

==========================  ===========================================  ========================================
name in the checkpoint      what the original allows                     what the replacement allows
==========================  ===========================================  ========================================
``builtins.getattr``        any function, through ``__globals__``        the statistics methods of HistoryBuffer
``...HistoryBuffer``        new methods, also for every other log        logs of numbers
``...ConfigDict``           dicts with attributes                        dicts
``numpy.ndarray``           Python objects from raw bytes                arrays of numbers and strings
``numpy.dtype``             invalid flags, through the pickled state     the same types, with a byte order
``...multiarray.scalar``    Python objects from raw bytes                numbers and strings
==========================  ===========================================  ========================================
"""

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

_STATISTICS = ('min', 'max', 'mean', 'current')


def _statistics_method(owner: Any, name: Any) -> Callable[..., Any]:
    """Replace ``getattr``."""
    is_log = owner is _Log or owner is HistoryBuffer
    if not is_log or type(name) is not str or name not in _STATISTICS:
        # not the repr of a value: a list of lists of lists can have a repr larger than the memory
        asked = f'{_name_of(owner)}, {name if type(name) is str else _name_of(name):.50}'
        raise UnpicklingError(
            f'the checkpoint calls getattr({asked}); only {", ".join(_STATISTICS)} of HistoryBuffer are allowed'
        )
    method: Callable[..., Any] = vars(HistoryBuffer)[name]
    return method


def _name_of(value: Any) -> str:
    return str(getattr(value, '__name__', f'a {type(value).__name__}'))[:50]


class _Log(HistoryBuffer):
    """Replace ``HistoryBuffer``: take the numbers from the checkpoint, but not the methods."""

    def __init__(self, *args: Any) -> None:
        raise UnpicklingError('the checkpoint constructs a log in a way that MMEngine does not use')

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = [state[key] for key in ('_log_history', '_count_history')]
        if not all(isinstance(a, np.ndarray) and a.dtype.kind in 'biuf' for a in arrays):
            raise UnpicklingError('the checkpoint has a log whose values or counts are not numbers')
        logs, counts = map(np.array, arrays)
        max_length = state['max_length']
        if type(max_length) is not int or logs.shape != counts.shape or logs.ndim != 1:
            raise UnpicklingError(
                'the checkpoint has a log whose values and counts differ in length'
            )
        self.__class__ = HistoryBuffer
        self._set_default_statistics()
        self.max_length, self._log_history, self._count_history = max_length, logs, counts


class _DType:
    """Replace ``numpy.dtype``: types without pointers, given by their code, such as 'f8'."""

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


def _to_dtype(dtype: _DType | np.dtype) -> np.dtype:
    """Return the NumPy type. It is not a ``_DType`` where a user has allowed ``numpy.dtype`` itself."""
    return dtype.dtype if isinstance(dtype, _DType) else dtype


class _Array(np.ndarray):
    """Replace ``numpy.ndarray``: filled by the state of a pickle, and pickled as a plain array."""

    def __new__(cls, *args: Any) -> '_Array':
        raise UnpicklingError(
            'the checkpoint constructs a NumPy array in a way that NumPy does not use'
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, shape, dtype, is_fortran, data = state
        super().__setstate__((version, shape, _to_dtype(dtype), is_fortran, data))

    def __reduce__(self) -> Any:
        return np.array(self).__reduce__()


def _reconstruct(subtype: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Replace the function of NumPy with this name: return an empty array, filled later by its state."""
    return np.ndarray.__new__(_Array, 0)


def _scalar(dtype: _DType | np.dtype, data: bytes) -> Any:
    """Replace NumPy's ``scalar``: return the number or string stored in ``data``."""
    return np.frombuffer(data, _to_dtype(dtype), count=1)[0]


def _config_dict(content: Any) -> dict[Any, Any]:
    """Replace ``ConfigDict``, which MMEngine saves where the ``metainfo`` of a dataset has a dict: return the dict."""
    if type(content) is not dict:
        raise UnpicklingError(
            'the checkpoint constructs a config dict in a way that MMEngine does not use'
        )
    return content


SAFE_GLOBALS: list[Any] = [
    (_config_dict, f'{ConfigDict.__module__}.{ConfigDict.__qualname__}'),
    (_Log, f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'),
    (_statistics_method, 'builtins.getattr'),
    (_Array, 'numpy.ndarray'),
    (_DType, 'numpy.dtype'),
    # under their own names too, so that an entry of a user for the originals does not displace them
    _Log,
    _Array,
    _DType,
    # NumPy 1 and NumPy 2
    *((_reconstruct, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((_scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]
"""Arguments of ``torch.serialization.add_safe_globals``."""
