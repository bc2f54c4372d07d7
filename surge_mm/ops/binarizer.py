"""What activation and weight binarisers share: a name by which a config builds them."""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, TypeVar

B = TypeVar('B', bound='Binarizer')


class Binarizer:
    """Base of both families. A subclass is found by its class name as soon as it is defined.

    A direct subclass opens a family with a table of its own, so that an activation binariser is never built
    where a weight binariser belongs.
    """

    family: ClassVar[str]
    known: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls) -> None:
        if Binarizer in cls.__bases__:
            cls.known = {}
        else:
            cls.known[cls.__name__] = cls

    @classmethod
    def build(cls: type[B], cfg: dict[str, Any]) -> B:
        """Build the binariser that ``cfg['type']`` names, with the other keys as its arguments.

        Raises:
            ValueError: ``type`` is missing, or names no binariser of this family.
            TypeError: an argument that the binariser does not have.
        """
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(
                f"{cls.family}={cfg!r} must be a dict with a type, such as dict(type='{next(iter(cls.known))}')"
            )
        arguments = dict(cfg)
        name = str(arguments.pop('type')).removeprefix('surge_mm.')
        if name not in cls.known:
            near = difflib.get_close_matches(name, cls.known, n=1, cutoff=0.4)
            hint = f'; did you mean {near[0]!r}?' if near else ''
            raise ValueError(
                f'{cls.family}: unknown binariser {name!r}{hint} Known: {", ".join(sorted(cls.known))}'
            )
        try:
            return cls.known[name](**arguments)
        except TypeError as error:
            raise TypeError(f'{cls.family}={cfg!r}: {error}') from error

    def __repr__(self) -> str:
        arguments = ', '.join(f'{name}={value!r}' for name, value in vars(self).items())
        return f'{type(self).__name__}({arguments})'
