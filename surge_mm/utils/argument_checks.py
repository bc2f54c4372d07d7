"""Check arguments against the annotations of a constructor.

:func:`checked` raises an error that names the argument, its value and what was expected. The error is raised where the
argument is given, not where a value of the wrong type fails later.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from surge_mm.utils.errors import UsageError
from surge_mm.utils.suggestions import accepts_any_keyword, argument_names, did_you_mean

F = TypeVar('F', bound=Callable[..., Any])
NO_COLLECTION = (str, bytes, Mapping)
TYPE_NAMES = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a string',
    types.NoneType: 'None',
}


@dataclass(frozen=True)
class Within:
    """Annotation of a finite number in a closed interval.

    Attributes:
        low (float): the smallest value. Defaults to minus infinity.
        high (float): the largest value. Defaults to infinity.
    """

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        """Return whether the number is finite and in the interval."""
        return self.low <= value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        if self.low == -math.inf:
            return 'that is finite'
        if self.high == math.inf:
            return f'of at least {self.low}'
        return f'in {self.low} to {self.high}'


class WithType:
    """Annotation of a config, a dict with the key ``type``."""

    def holds(self, value: Mapping[str, Any]) -> bool:
        """Return whether the dict has a type that a registry can build."""
        return isinstance(value.get('type'), str) or callable(value.get('type'))

    def __str__(self) -> str:
        return "with a type, such as dict(type='BN')"


Positive = Annotated[int, Within(1)]
Count = Annotated[int, Within(0)]
Finite = Annotated[float, Within()]
NonNegative = Annotated[float, Within(0)]
Fraction = Annotated[float, Within(0, 1)]
Cfg = Annotated[dict[str, Any], WithType()]


def checked(function: F) -> F:
    """Decorate a function or a dataclass so that it checks its arguments against their annotations.

    Ranges are part of the annotations: :data:`Positive`, ``Literal['conv', 'pad']``. Of arguments collected by
    ``**kwargs``, a constructor checks the names (:func:`check_keywords`).

    Args:
        function (Callable): the function, usually a constructor; of a class, its constructor is decorated.

    Returns:
        Callable: the function with the same signature. It raises a :class:`UsageError` for a wrong argument.
    """
    if isinstance(function, type):
        function.__init__ = checked(function.__init__)  # type: ignore[misc]
        return function
    signature = inspect.signature(function)
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [name for name, p in signature.parameters.items() if p.kind not in collecting]
    owner = function.__qualname__.removesuffix('.__init__')
    passes_on = owner != function.__qualname__ and len(names) < len(signature.parameters)

    @functools.cache
    def get_hints() -> dict[str, Any]:  # on the first call: a hint may name a class defined later
        return get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # raises an error with the name of the function
        for name in names:
            hint = get_hints().get(name, Any)
            if name in given and not matches(given[name], hint):
                value, advice = given[name], ''
                if hint == dict[str, Any] and (isinstance(value, str) or hasattr(value, 'family')):
                    kind = value if isinstance(value, str) else type(value).__name__
                    advice = f', such as dict(type={kind!r})'
                raise UsageError(f'{owner}: {name}={value!r} must be {describe(hint)}{advice}')
        if passes_on:
            check_keywords(owner, kwargs, type(args[0]))
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def check_keywords(
    owner: str, keywords: Iterable[str], target: Callable[..., Any], also: Iterable[str] = ()
) -> None:
    """Check the names of keyword arguments that are passed on to another function or constructor.

    Args:
        owner (str): the name of the function or class that was called, for the error message.
        keywords (Iterable[str]): the names that were given.
        target (Callable): the function or class that they are passed on to. If it accepts any name, nothing is checked.
        also (Iterable[str]): names that ``owner`` accepts besides, for the suggestion. Defaults to ().

    Raises:
        UsageError: if a name is not an argument of ``target``.
    """
    known = argument_names(target)
    for name in keywords:
        if name not in known and not accepts_any_keyword(target):
            hint = did_you_mean(name, [*also, *known])
            raise UsageError(f'{owner}: unknown argument {name!r}{hint}')


def matches(value: Any, hint: Any) -> bool:
    """Return whether a value matches an annotation.

    Values of configs match where the difference has no effect: an int for a float, 0 and 1 for a bool, a list for a
    tuple. Annotations that cannot be checked match every value.

    Args:
        value (Any): the value.
        hint (Any): the annotation, as returned by ``typing.get_type_hints(..., include_extras=True)``.

    Returns:
        bool: whether the value matches.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return matches(value, inner[0]) and all(extra.holds(value) for extra in inner[1:])
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in inner)
    if origin is Literal:
        is_plain = isinstance(value, (str, Real)) and not isinstance(value, bool)
        return is_plain and value in inner
    kind = origin or hint
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1))
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    if kind is Any or not isinstance(kind, type):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and (
            not inner
            or all(matches(k, inner[0]) and matches(v, inner[1]) for k, v in value.items())
        )
    if issubclass(kind, Collection) and not issubclass(kind, NO_COLLECTION):
        return _matches_collection(value, kind, inner)
    return isinstance(value, kind)


def _matches_collection(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    is_collection = hasattr(value, '__len__') and hasattr(value, '__iter__')
    if not is_collection or isinstance(value, NO_COLLECTION):
        return False
    if kind is tuple and ... not in inner:
        return len(value) == len(inner) and all(map(matches, value, inner))
    return not inner or all(matches(item, inner[0]) for item in value)


def describe(hint: Any) -> str:
    """Describe the values that :func:`matches` accepts.

    Args:
        hint (Any): the annotation.

    Returns:
        str: such as ``'a whole number of at least 1 or None'``.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ' '.join([describe(inner[0]), *map(str, inner[1:])])
    if origin in (Union, types.UnionType):
        return _join_options(map(describe, inner))
    if origin is Literal:
        return _join_options(map(repr, inner))
    kind = origin or hint
    if kind in TYPE_NAMES:
        return TYPE_NAMES[kind]
    if kind is Any or not isinstance(kind, type):
        return str(hint)
    if issubclass(kind, Mapping):
        has_value_type = len(inner) == 2 and inner[1] is not Any
        return (
            f'a dict, of which each value is {describe(inner[1])}' if has_value_type else 'a dict'
        )
    if issubclass(kind, Collection):
        items = [item for item in inner if item is not ...]
        return f'a list, of which each is {describe(items[0])}' if items else 'a list'
    return f'a {kind.__name__}'


def _join_options(options: Iterable[str]) -> str:
    *most, last = options
    separator = ', or ' if any(', ' in option for option in most) else ' or '
    return f'{", ".join(most)}{separator}{last}' if most else last
