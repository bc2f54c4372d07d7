"""Arguments that do not fit are refused by name, before a value of the wrong type ends in a traceback elsewhere."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from surge_mm.utils.errors import UsageError

F = TypeVar('F', bound=Callable[..., Any])
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
TEXT = (str, bytes, Mapping)


@dataclass(frozen=True)
class Within:
    """In an annotation: a finite number from ``low`` to ``high``, both included."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        return self.low <= value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        if self.low == -math.inf:
            return 'that is finite'
        return (
            f'of at least {self.low}' if self.high == math.inf else f'in {self.low} to {self.high}'
        )


class WithType:
    """In an annotation: a dict that says what to build of it."""

    @staticmethod
    def holds(value: Mapping[str, Any]) -> bool:
        return isinstance(value.get('type'), str) or callable(value.get('type'))

    def __str__(self) -> str:
        return "with a type, such as dict(type='BN')"


Positive = Annotated[int, Within(1)]
Count = Annotated[int, Within(0)]
Finite = Annotated[float, Within()]
NotNegative = Annotated[float, Within(0)]
Share = Annotated[float, Within(0, 1)]
Cfg = Annotated[dict[str, Any], WithType()]


def fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is what the annotation ``hint`` says.

    Where it makes no difference, other types count: whole numbers as numbers, 0 and 1 as False and True, lists as
    tuples. What cannot be judged fits.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, inner[0]) and all(one.holds(value) for one in inner[1:])
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        plain = isinstance(value, (str, Real)) and not isinstance(value, bool)
        return plain and value in inner
    kind = origin or hint
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1))
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if kind is Any or not isinstance(kind, type):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(
            fits(one, part)
            for pair in value.items()
            for one, part in zip(pair, inner, strict=False)
        )
    if issubclass(kind, Collection) and not issubclass(kind, TEXT):
        return _fits_collection(value, kind, inner)
    return isinstance(value, kind)


def _fits_collection(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, TEXT) or not (hasattr(value, '__len__') and hasattr(value, '__iter__')):
        return False
    if kind is tuple and ... not in inner:
        return len(value) == len(inner) and all(map(fits, value, inner))
    return all(fits(one, inner[0]) for one in value) if inner else True


def words(hint: Any) -> str:
    """What :func:`fits` asks for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ' '.join([words(inner[0]), *map(str, inner[1:])])
    if origin in (Union, types.UnionType):
        return _either(map(words, inner))
    if origin is Literal:
        return _either(map(repr, inner))
    kind = origin or hint
    said = {bool: 'True or False', int: 'a whole number', float: 'a number', str: 'a string'}
    if kind in said:
        return said[kind]
    if kind is types.NoneType:
        return 'None'
    if kind is Any or not isinstance(kind, type):
        return str(hint)
    if issubclass(kind, Mapping):
        typed = len(inner) == 2 and inner[1] is not Any
        return f'a dict, of which each value is {words(inner[1])}' if typed else 'a dict'
    if issubclass(kind, Collection):
        each = [one for one in inner if one is not ...][:1]
        return f'a list, of which each is {words(each[0])}' if each else 'a list'
    return f'a {kind.__name__}'


def _either(options: Iterable[str]) -> str:
    *most, last = options
    return f'{", ".join(most)} or {last}' if most else last


def checked(function: F) -> F:
    """Decorate a constructor: it refuses, by name, an argument that does not fit its annotation.

    Ranges stand in annotations too: :data:`Positive`, ``Literal['conv', 'pad']``.
    """
    signature = inspect.signature(function)
    starred = {
        name
        for name, one in signature.parameters.items()
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    }

    @functools.cache
    def hints() -> dict[str, Any]:  # later than here, for a class may be named that is not made yet
        return get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            given = {}  # Python says it better in the call
        for name, value in given.items():
            hint = hints().get(name, Any)
            if name not in starred and not fits(value, hint):
                called = function.__qualname__.removesuffix('.__init__')
                raise UsageError(f'{called}: {name}={value!r} must be {words(hint)}')
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def near(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Which of ``known`` a misspelt ``word`` means, if one resembles it; case counts for nothing."""
    lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(word.lower(), lower, n=5, cutoff=cutoff)
    off = [one for one in found if one_letter_off(word, one)]
    swapped = [one for one in off if sorted(one) == sorted(word.lower())]
    return lower[[*swapped, *off, *found][0]] if found else None


def one_letter_off(name: str, known: str) -> bool:
    """Whether one letter is left out, added, another, or changes places with the next; case and _ do not count."""
    a, b = (one.lower().replace('_', '') for one in (name, known))
    start = len(os.path.commonprefix([a, b]))
    a, b = a[start:], b[start:]
    end = len(os.path.commonprefix([a[::-1], b[::-1]]))
    a, b = a[: len(a) - end], b[: len(b) - end]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def did_you_mean(word: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """The end of a sentence that refuses ``word``: which is near, and what there is."""
    close = near(word, known, cutoff)
    hint = f'; did you mean {close!r}?' if close else '.'
    return f'{hint} Known: {", ".join(known) or "none"}'


def accepted(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a function, or the constructor of a class with its bases, takes."""
    names = {one.name: None for one in parameters(function) if one.kind in BY_NAME}
    return [name for name in names if name != 'self']


def parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Those of a function, or of the constructor of a class and of those that it hands others on to."""
    calls = [function]
    if isinstance(function, type):
        calls = [vars(one)['__init__'] for one in function.__mro__[:-1] if '__init__' in vars(one)]
    for call in calls:
        own = inspect.signature(call).parameters.values()
        yield from own
        if all(one.kind is not one.VAR_KEYWORD for one in own):
            return
