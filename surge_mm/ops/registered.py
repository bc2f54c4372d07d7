"""Registry of binarizers and scale factors: each class is known by its name as soon as it is defined."""

from __future__ import annotations

import os
import sys
from abc import ABC
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from surge_mm.utils.errors import UsageError
from surge_mm.utils.suggestions import argument_names, did_you_mean

R = TypeVar('R', bound='Registered')


families: dict[str, type[Registered]] = {}
"""Bases of the families by name."""


class Registered(ABC):
    """Base of the families of classes that a setting of a layer names, such as ``activation=dict(type='EDE')``.

    A class that sets ``family`` starts a family with a table of its own. Each subclass of it is registered under its
    class name, which no other class of the family may have. A class that is defined again, under the same name in the
    same module, replaces the earlier one.

    Attributes:
        family (str): The argument of a layer, such as ``'activation'``.
        advice (str): Sentence of the error about an unknown name.
        controls (tuple[str, ...]): Further keys of the dict that every class of the family takes.
        known (dict[str, type]): The classes of the family by name.
    """

    family: ClassVar[str]
    advice: ClassVar[str] = ''
    controls: ClassVar[tuple[str, ...]] = ()
    known: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if 'family' in vars(cls):
            cls.known = {}
            families[cls.family] = cls
        elif hasattr(cls, 'known'):
            other = cls.known.get(cls.__name__, cls)
            if _path(other) != _path(cls):
                raise UsageError(
                    f'{cls.family}: the name {cls.__name__!r} of {_path(cls)} is taken by {_path(other)}. Give the '
                    'class another name'
                )
            cls.known[cls.__name__] = cls

    @classmethod
    def find(cls: type[R], kind: Any) -> type[R] | None:
        """Return the class of this family that ``type`` of a setting names; None if there is none. Nothing is imported.

        Args:
            kind (str | type): The class itself; its name (``'EDE'``); or its name behind the package or module that
                defines it (``'surge_mm.EDE'``, ``'my_package.TanhSign'``).
        """
        if isinstance(kind, type):
            return kind if issubclass(kind, cls) else None
        scope, _, name = str(kind).rpartition('.')
        found = cls.known.get(name)
        if found is None or scope in ('', 'surge_mm'):
            return found
        return found if f'{found.__module__}.'.startswith(f'{scope}.') else None

    @classmethod
    def build(cls: type[R], cfg: dict[str, Any]) -> R:
        """Build the class ``cfg['type']``, with the other keys as its arguments.

        If the name has a package or module before it, in which the class is not defined yet, that is imported.

        Args:
            cfg (dict): Such as ``dict(type='EDE', t_min=1e-3)``.

        Raises:
            ValueError: if ``type`` is missing, is not of this family, or is a class that lacks a method.
            TypeError: if the class does not have one of the arguments.
        """
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise UsageError(
                f"{cls.family}={cfg!r} must be a dict with a type, such as dict(type='{next(iter(cls.known))}')"
            )
        arguments = dict(cfg)
        found = cls._find_or_import(arguments.pop('type'))
        missing = sorted(getattr(found, '__abstractmethods__', ()))
        if missing:
            raise UsageError(
                f'{cls.family}={cfg!r}: {_path(found)} lacks {", ".join(missing)}. Define what {cls.__name__} describes'
            )
        takes = argument_names(found)
        for key in arguments:
            if key not in takes:
                hint = did_you_mean(key, [*takes, *cls.controls])
                raise TypeError(
                    f'{cls.family}={cfg!r}: {found.__name__} has no argument {key!r}{hint}'
                )
        return found(**arguments)

    @classmethod
    def _find_or_import(cls: type[R], kind: Any) -> type[R]:
        found, reason = cls.find(kind), ''
        if found is None and isinstance(kind, str) and '.' in kind:
            try:
                import_module(kind.rpartition('.')[0])
            except ImportError as error:
                here = {'', os.getcwd()} & set(sys.path)
                path = '' if here else '; a module in the current folder needs PYTHONPATH=.'
                reason = f' (import: {error}{path})'
            found = cls.find(kind)
        if found is not None:
            return found
        if isinstance(kind, type):
            raise UsageError(f'{cls.family}: {_path(kind)} must be a subclass of {_path(cls)}')
        name = str(kind).removeprefix('surge_mm.')
        longer = [
            known for known in cls.known if name and known.startswith(name)
        ]  # STESign for STE
        hint = did_you_mean(longer[0] if longer else name, sorted(cls.known), cutoff=0.4)
        for other in families.values():
            if other is not cls and name in other.known:
                hint += f'. {name} is for {other.family}=dict(type={name!r})'
        raise UsageError(
            f'{cls.family}: unknown type {name!r}{reason}{hint}.{cls.advice} A class of your own derives from '
            f'surge_mm.ops.{cls.__name__}; import its module first (in a config, by custom_imports)'
        )

    def __repr__(self) -> str:
        controls = (f'surrogate_{name}' for name in self.controls)
        takes = {*argument_names(type(self)), *controls}  # other attributes are state
        arguments = ', '.join(
            f'{name}={value!r}' for name, value in vars(self).items() if name in takes
        )
        return f'{type(self).__name__}({arguments})'


def _path(cls: Any) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


def check_shape(owner: Registered, method: str, value: Any, like: Tensor) -> None:
    """Check that a method of a registered class returned a tensor of the shape that it must have.

    Args:
        owner (Registered): The object with the method.
        method (str): Name of the method.
        value (Any): What it returned.
        like (Tensor): Tensor of the expected shape.

    Raises:
        UsageError: if ``value`` is no tensor, or has another shape.
    """
    if not isinstance(value, Tensor) or value.shape != like.shape:
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f'{type(owner).__name__}.{method} must return a tensor of the shape {tuple(like.shape)}, got {got}'
        )
