"""What the pickle of a checkpoint would do, found out without doing it.

A pickle is a program for a small stack machine: it names callables and says with what to call them. PyTorch's loader
(``weights_only=True``) calls none but those of its list, yet some of these are powerful: ``bytearray(10**12)`` or
``_codecs.encode(text, 'hex')`` a few times over fill any memory, and a sparse tensor's indices are not checked. Here
the program is followed with inert objects in the place of what it makes, and refused where it does more than
:func:`torch.save` ever asks for. Names that are unknown here are left to PyTorch, which knows who allowed them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import torch

MAX_STEPS = 5_000_000
"""A program may not be longer: each step can cost a hundred bytes. The longest of MMEngine's have some 100,000."""

SCALARS = (str, bytes, int, float, bool, type(None))
CONSTANTS: dict[str, Any] = {
    'NONE': None,
    'NEWTRUE': True,
    'NEWFALSE': False,
    'EMPTY_TUPLE': (),
}
LITERALS = ('BININT', 'BININT1', 'BININT2', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINSTRING', 'LONG1')
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
ITEMSIZES = {
    **dict.fromkeys(('Untyped', 'Byte', 'Char', 'Bool'), 1),
    **dict.fromkeys(('Short', 'Half', 'BFloat16'), 2),
    **dict.fromkeys(('Int', 'Float'), 4),
    **dict.fromkeys(('Long', 'Double', 'ComplexFloat'), 8),
    'ComplexDouble': 16,
}
"""Bytes of an element of torch's kinds of storages, but for the quantized ones."""

REBUILD = ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_tensor_v3')
WRAP = (
    'Parameter',
    '_rebuild_parameter',
    '_rebuild_parameter_with_state',
    '_rebuild_device_tensor_from_numpy',
    '_rebuild_device_tensor_from_cpu_tensor',
)
REFUSED = (
    '_rebuild_qtensor',
    '_rebuild_sparse_tensor',
    '_rebuild_nested_tensor',
    '_rebuild_meta_tensor_no_storage',
    '_rebuild_wrapper_subclass',
)


class ProgramError(ValueError):
    """The program does what no checkpoint needs, or breaks off."""


@dataclass(frozen=True, eq=False)
class Name:
    """A callable that the program names, as in ``torch._utils._rebuild_tensor_v2``."""

    path: str

    @property
    def last(self) -> str:
        """Its last part: Python 2 had other modules for the same callables."""
        return self.path.rpartition('.')[2]


@dataclass(frozen=True, eq=False)
class Made:
    """What a call would return."""

    by: Name


@dataclass(frozen=True, eq=False)
class Storage:
    """The numbers of a tensor, which lie outside the program."""

    nbytes: int
    itemsize: int


class Program:
    """Follows programs, whose storages and memory it counts together.

    Args:
        size (int): Bytes of the file. Tensors that show more elements than their storages hold (as ``expand`` makes
            them) may not unfold to more than that.
        check_storage (Callable): Called with the key and the bytes of each storage; raises where it is not there.
    """

    def __init__(self, size: int, check_storage: Callable[[str, int], None]) -> None:
        self.size = size
        self.check_storage = check_storage
        self.unfolded = 0
        self.steps = 0

    def follow(self, stream: BinaryIO) -> Any:
        """The result of the program that begins here, and the stream behind it.

        Raises:
            ProgramError: see above.
        """
        try:
            return self._follow(stream)
        except ProgramError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as e:
            raise ProgramError(f'its pickle is damaged ({type(e).__name__}: {str(e)[:200]})') from e

    def _follow(self, stream: BinaryIO) -> Any:
        stack: list[Any] = []
        marks: list[list[Any]] = []
        memo: dict[Any, Any] = {}
        for opcode, arg, _ in pickletools.genops(stream):
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise ProgramError(f'its pickle has more than {MAX_STEPS:,} steps')
            name = opcode.name
            if name in LITERALS:
                stack.append(arg)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name])
            elif name in ('BINPUT', 'LONG_BINPUT'):
                memo[arg] = stack[-1]
            elif name in ('BINGET', 'LONG_BINGET'):
                stack.append(memo[arg])
            elif name in TUPLES:
                count = TUPLES[name]
                if len(stack) < count:
                    raise IndexError('stack underflow')
                stack[-count:] = [tuple(stack[-count:])]
            elif name == 'MARK':
                marks.append(stack)
                stack = []
            elif name in ('TUPLE', 'APPENDS', 'SETITEMS'):
                items, stack = stack, marks.pop()
                _put(name, stack, items)
            elif name == 'APPEND':
                item = stack.pop()
                _put('APPENDS', stack, [item])
            elif name == 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _put('SETITEMS', stack, [key, value])
            elif name == 'EMPTY_LIST':
                stack.append([])
            elif name == 'EMPTY_DICT':
                stack.append({})
            elif name == 'EMPTY_SET':
                stack.append(Made(Name('builtins.set')))
            elif name == 'GLOBAL':
                stack.append(Name('.'.join(str(arg).split(' ', 1))))
            elif name in ('REDUCE', 'NEWOBJ'):
                args, callee = stack.pop(), stack.pop()
                stack.append(self._call(callee, args))
            elif name == 'BUILD':
                state = stack.pop()
                _check_build(stack[-1], state)
            elif name == 'BINPERSID':
                stack.append(self._storage(stack.pop()))
            elif name == 'STOP':
                return stack.pop()
            elif name != 'PROTO':
                raise ProgramError(
                    f'its pickle has the step {name}, which checkpoints of PyTorch do not use'
                )
        raise EOFError

    def _call(self, callee: Any, args: Any) -> Made:
        if not isinstance(callee, Name):
            raise ProgramError(f'its pickle calls {_what(callee)}')
        if not isinstance(args, tuple):
            raise ProgramError(f'its pickle calls {callee.path} with {_what(args)}')
        last = callee.last
        if last in REFUSED or last.endswith(('Tensor', 'Storage')):
            raise ProgramError(
                f'it makes a tensor by {callee.path}; only dense tensors that the file holds are loaded'
            )
        if last in REBUILD:
            self._check_tensor(last, *args)
        elif last in WRAP and not (args and isinstance(args[0], Made)):
            raise ProgramError(f'it makes a tensor by {callee.path} of {_what(args)}')
        elif last == '_rebuild_from_type_v2':
            maker, kind, inner, _ = args
            if not isinstance(kind, Name) or kind.last not in ('Tensor', 'Parameter'):
                raise ProgramError(f'it makes a tensor of the type {_what(kind)}')
            if not isinstance(maker, Name) or maker.last not in REBUILD + WRAP:
                raise ProgramError(f'it makes a tensor by {_what(maker)}')
            self._call(maker, inner)
        elif last == 'encode' and not (
            len(args) == 2 and isinstance(args[0], str) and args[1] in ('latin1', 'latin-1')
        ):
            raise ProgramError(f'it encodes {_what(args)}; bytes are saved as latin1')
        elif last == 'bytearray' and not (
            not args
            or isinstance(args[0], (str, bytes))
            or (isinstance(args[0], Made) and args[0].by.last == 'encode')
        ):
            raise ProgramError(f'it makes a bytearray of {_what(args)}')
        elif last in ('set', 'Counter', 'OrderedDict'):
            for arg in args:
                if type(arg) not in (list, dict):
                    raise ProgramError(f'it makes a {last} of {_what(arg)}')
                _check_keys(list(arg) if last != 'OrderedDict' else [pair[0] for pair in arg])
        return Made(callee)

    def _storage(self, pid: Any) -> Storage:
        if not (
            isinstance(pid, tuple)
            and len(pid) in (5, 6)
            and pid[0] == 'storage'
            and isinstance(pid[1], Name)
            and isinstance(pid[2], str)
            and isinstance(pid[3], str)
            and type(pid[4]) is int
            and pid[4] >= 0
        ):
            raise ProgramError(f'its pickle refers to {_what(pid)} where a storage should be')
        itemsize = ITEMSIZES.get(pid[1].last.removesuffix('Storage'))
        if itemsize is None:
            raise ProgramError(f'it has a storage of the type {_what(pid[1])}')
        self.check_storage(pid[2], pid[4] * itemsize)
        return Storage(pid[4] * itemsize, itemsize)

    def _check_tensor(
        self, maker: str, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any
    ) -> None:
        if not isinstance(storage, Storage):
            raise ProgramError(f'it makes a tensor of {_what(storage)}')
        itemsize = storage.itemsize
        if maker.endswith('v3'):
            dtype = getattr(torch, rest[2].last, None) if isinstance(rest[2], Name) else None
            if not isinstance(dtype, torch.dtype):
                raise ProgramError(f'it makes a tensor of the type {_what(rest[2])}')
            itemsize = dtype.itemsize
        numbers = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
            raise ProgramError(f'it makes a tensor of shape {_what(size)}')
        count = prod(size)
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        if count and reach * itemsize > storage.nbytes:
            raise ProgramError(
                f'a tensor of shape {_short(size)} reaches beyond its storage of {storage.nbytes} bytes'
            )
        if count * itemsize > storage.nbytes:
            self.unfolded += count * itemsize
        if self.unfolded > self.size:
            raise ProgramError(
                f'tensors as of shape {_short(size)}, from a storage of {storage.nbytes} bytes, unfold to more than '
                'the file holds'
            )


def _put(step: str, stack: list[Any], items: list[Any]) -> None:
    if step == 'TUPLE':
        stack.append(tuple(items))
    elif step == 'APPENDS':
        if type(stack[-1]) is not list:
            raise ProgramError(f'its pickle appends to {_what(stack[-1])}')
        stack[-1].extend(items)
    else:
        _check_keys(items[::2])
        target = stack[-1]
        if type(target) is dict:
            target.update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(target, Made) or target.by.last not in ('OrderedDict', 'Counter'):
            raise ProgramError(f'its pickle sets items of {_what(target)}')


def _check_keys(keys: list[Any]) -> None:
    """Nested tuples take an age to hash: each level doubles it."""
    for key in keys:
        flat = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, (*SCALARS, Name)) for part in flat):
            raise ProgramError(f'it has {_what(key)} as a key')


def _check_build(target: Any, state: Any) -> None:
    """What a state may be given to, and for a dict of weights, which: others displace its methods."""
    if not isinstance(target, Made):
        raise ProgramError(f'its pickle gives a state to {_what(target)}')
    last = target.by.last
    if last == 'OrderedDict' and (type(state) is not dict or set(state) - {'_metadata'}):
        raise ProgramError(f'it gives a dict of weights attributes: {_what(state)}')
    if last in (*REBUILD, *WRAP, '_rebuild_from_type_v2'):
        raise ProgramError('its pickle changes a tensor after it has made it')


def _what(value: Any) -> str:
    """A short text of bounded cost, whatever the program has built."""
    if isinstance(value, Name):
        return value.path[:200]
    if isinstance(value, Made):
        return f'the result of {value.by.path[:200]}'
    if isinstance(value, SCALARS):
        return repr(value)[:200] if not isinstance(value, int) else _short((value,))
    if isinstance(value, tuple) and all(isinstance(part, (*SCALARS, Name)) for part in value[:8]):
        return f'({", ".join(_what(part) for part in value[:8])})'
    return f'a {type(value).__name__.lower()}'


def _short(numbers: Any) -> str:
    return ', '.join(f'{n:,}' if abs(n) < 10**30 else 'huge' for n in list(numbers)[:8])
