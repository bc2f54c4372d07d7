"""The classes that the config of a packed file may name: those of ``allowed_classes.txt``, and the user's own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

LINES = Path(__file__).with_suffix('.txt').read_text(encoding='utf-8').splitlines()
ALLOWED = frozenset(line for line in LINES if line and not line.startswith('#'))
"""Each a package and the name of a class that is defined in it or in one of its modules, with a dot between."""


def full_name(cls: Any) -> str:
    """Return the module and the name of a class or function, such as ``'torch.nn.modules.conv.Conv2d'``.

    Args:
        cls (Any): The class, or a ``functools.partial`` of it as the registry of MMPretrain has them.
    """
    cls = getattr(cls, 'func', cls)
    return f'{cls.__module__}.{cls.__qualname__}'


def is_allowed(cls: Any, allow: Collection[type | str] = ()) -> bool:
    """Return whether the config of a packed file may name a class.

    Args:
        cls (Any): The class.
        allow (Collection[type | str]): Further classes, or their full names. Defaults to none.
    """
    name = full_name(cls)
    *packages, own = name.split('.')
    names = {'.'.join((*packages[:i], own)) for i in range(1, len(packages) + 1)}
    return cls in allow or name in allow or not ALLOWED.isdisjoint(names)
