"""Suggest a name for a misspelt one."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Collection, Iterable

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def did_you_mean(name: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """Return the end of an error message about an unknown name.

    Args:
        name (str): the unknown name.
        known (Collection[str]): the names that exist.
        cutoff (float): the smallest similarity, as in ``difflib.get_close_matches``. Defaults to 0.6.

    Returns:
        str: the closest known name, if one is similar, and all known names.
    """
    closest = closest_name(name, known, cutoff)
    hint = f'; did you mean {closest!r}?' if closest else '.'
    return f'{hint} Known: {", ".join(known) or "none"}'


def closest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known name that is most similar to a misspelt one, ignoring case.

    Names with two letters swapped come first, then those at one edit.

    Args:
        name (str): the misspelt name.
        known (Iterable[str]): the names that exist.
        cutoff (float): the smallest similarity, as in ``difflib.get_close_matches``. Defaults to 0.6.

    Returns:
        str | None: the known name; None if none is similar.
    """
    originals = {other.lower(): other for other in known}
    similar = difflib.get_close_matches(name.lower(), originals, n=5, cutoff=cutoff)
    one_edit = [other for other in similar if is_one_edit_apart(name, other)]
    swapped = [other for other in one_edit if sorted(other) == sorted(name.lower())]
    return originals[[*swapped, *one_edit, *similar][0]] if similar else None


def is_one_edit_apart(name: str, known: str) -> bool:
    """Return whether two names differ by one letter or by two adjacent letters swapped.

    Args:
        name (str): a name. Case and underscores are ignored.
        known (str): another name.

    Returns:
        bool: True also for equal names.
    """
    a, b = (text.lower().replace('_', '') for text in (name, known))
    start = len(os.path.commonprefix([a, b]))
    a, b = a[start:], b[start:]
    end = len(os.path.commonprefix([a[::-1], b[::-1]]))
    a, b = a[: len(a) - end], b[: len(b) - end]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def argument_names(function: Callable[..., object]) -> list[str]:
    """List the names of the arguments of a function or of the constructor of a class.

    A constructor with ``**kwargs`` passes them on to that of a base class, whose names are included.

    Args:
        function (Callable): the function or class.

    Returns:
        list[str]: the names, without ``self``.
    """
    parameters = [p for signature in _signatures(function) for p in signature.parameters.values()]
    return list(dict.fromkeys(p.name for p in parameters if p.kind in BY_NAME and p.name != 'self'))


def accepts_any_keyword(function: Callable[..., object]) -> bool:
    """Return whether a function or constructor accepts names other than :func:`argument_names`."""
    return any(map(_has_keywords, _signatures(function)[-1:]))


def _signatures(function: Callable[..., object]) -> list[inspect.Signature]:
    """Return the signature of a function, or of a constructor and of those that it passes ``**kwargs`` on to."""
    calls = [function]
    if isinstance(function, type):
        calls = [vars(c)['__init__'] for c in function.__mro__[:-1] if '__init__' in vars(c)]
    signatures = []
    for call in calls:
        signatures.append(inspect.signature(call))
        if not _has_keywords(signatures[-1]):
            break
    return signatures


def _has_keywords(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
