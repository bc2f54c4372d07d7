"""What activation and weight binarisers share: a name by which a config builds them, and schedules."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, TypeVar

from surge_mm.utils.argument_checks import accepted, did_you_mean

B = TypeVar('B', bound='Binarizer')


class Binarizer(ABC):
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
            hint = did_you_mean(name, sorted(cls.known), cutoff=0.4)
            raise ValueError(f'{cls.family}: unknown binariser {name!r}{hint}')
        takes = accepted(cls.known[name])
        for key in arguments:
            if key not in takes:
                hint = did_you_mean(key, takes)
                raise TypeError(f'{cls.family}={cfg!r}: {name} has no argument {key!r}{hint}')
        return cls.known[name](**arguments)

    def __repr__(self) -> str:
        arguments = ', '.join(f'{name}={value!r}' for name, value in vars(self).items())
        return f'{type(self).__name__}({arguments})'


class Scheduled:
    """Mixin of the binarisers whose surrogate gradient changes over training.

    Their values do not change: a trained network computes the same whatever the progress. The hook
    ``surge_mm.BinarizerScheduleHook`` sets the progress; in a training loop of one's own, :meth:`follow` does.
    """

    _progress: float | None = None

    def follow(self, progress: float) -> None:
        """Take the surrogate of a training run that is ``progress`` done: 0 at its first step, 1 at its last.

        Raises:
            ValueError: ``progress`` lies outside of 0 to 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f'progress={progress!r} must lie in 0 to 1')
        self._progress = float(progress)

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1.

        Raises:
            RuntimeError: nothing has set it.
        """
        if self._progress is None:
            raise RuntimeError(
                f'{type(self).__name__} changes over training, and nothing says how far the training is. Add '
                "dict(type='surge_mm.BinarizerScheduleHook') to custom_hooks; in a loop of your own call "
                'follow(progress), from 0 to 1, on the binariser'
            )
        return self._progress
