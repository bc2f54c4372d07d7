"""Base of activation and weight binarizers: building by name, and schedules."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from surge_mm.utils.suggestions import argument_names, did_you_mean

B = TypeVar('B', bound='Binarizer')


class Binarizer(ABC):
    """Base class of both families. A subclass can be built by its class name as soon as it is defined.

    Each direct subclass is a family with a table of its own, so that an activation binarizer is never built in place of
    a weight binarizer.

    Attributes:
        controls (tuple[str, ...]): Further keys of the dict that every binarizer of the family takes.
    """

    family: ClassVar[str]
    controls: ClassVar[tuple[str, ...]] = ()
    known: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls) -> None:
        if Binarizer in cls.__bases__:
            cls.known = {}
        else:
            cls.known[cls.__name__] = cls

    @classmethod
    def build(cls: type[B], cfg: dict[str, Any]) -> B:
        """Build the binarizer ``cfg['type']``, with the other keys as its arguments.

        Args:
            cfg (dict): Such as ``dict(type='EDE', t_min=1e-3)``.

        Raises:
            ValueError: if ``type`` is missing or not a binarizer of this family.
            TypeError: if the binarizer does not have one of the arguments.
        """
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(
                f"{cls.family}={cfg!r} must be a dict with a type, such as dict(type='{next(iter(cls.known))}')"
            )
        arguments = dict(cfg)
        name = str(arguments.pop('type')).removeprefix('surge_mm.')
        if name not in cls.known:
            hint = did_you_mean(name, sorted(cls.known), cutoff=0.4)
            raise ValueError(f'{cls.family}: unknown binarizer {name!r}{hint}')
        takes = argument_names(cls.known[name])
        for key in arguments:
            if key not in takes:
                hint = did_you_mean(key, [*takes, *cls.controls])
                raise TypeError(f'{cls.family}={cfg!r}: {name} has no argument {key!r}{hint}')
        return cls.known[name](**arguments)

    def __repr__(self) -> str:
        arguments = ', '.join(
            f'{name}={value!r}' for name, value in vars(self).items() if name[0] != '_'
        )
        return f'{type(self).__name__}({arguments})'


class Scheduled:
    """Mixin of the binarizers whose surrogate gradient changes over training.

    Their values do not change: the output of a trained network is independent of the progress. The hook
    ``surge_mm.BinarizerScheduleHook`` sets the progress; in another training loop, ``surge_mm.set_progress`` does.
    """

    _progress: float | None = None
    _restored: float | None = None
    _compiled_progress: Tensor | None = None

    def follow(self, progress: float) -> None:
        """Set how much of the training is done.

        Args:
            progress (float): 0 at the first step, 1 at the last.

        Raises:
            ValueError: if ``progress`` is not in 0 to 1.
        """
        if not 0 <= progress <= 1:
            raise ValueError(f'progress={progress!r} must be in 0 to 1')
        self._progress = float(progress)
        self._compiled_progress = _scalar(progress)

    def restore(self, progress: float | None) -> None:
        """Set the progress of a loaded state dict, which counts until :meth:`follow` is called.

        Args:
            progress (float, optional): 0 at the first step, 1 at the last; None to forget it.
        """
        self._restored = progress
        if self._progress is None:
            self._compiled_progress = None if progress is None else _scalar(progress)

    @property
    def known_progress(self) -> float | None:
        """Return the progress, or None if it was neither set nor restored."""
        return self._restored if self._progress is None else self._progress

    @property
    def progress(self) -> float:
        """Return the share of the training that is done, 0 to 1: that of :meth:`follow`, or else of :meth:`restore`.

        Raises:
            RuntimeError: if it was never set.
        """
        progress = self.known_progress
        if progress is None:
            raise RuntimeError(
                f'{type(self).__name__} changes over training, and its progress was never set. Add '
                "dict(type='surge_mm.BinarizerScheduleHook') to custom_hooks; in a loop of your own call "
                'surge_mm.set_progress(model, progress), from 0 to 1, before each step'
            )
        return progress

    @property
    def progress_tensor(self) -> Tensor:
        """Return :attr:`progress` as a 0-dimensional tensor, float64, on the CPU.

        In code that ``torch.compile`` compiles, a Python number that changes from step to step is compiled again, and
        fails in a layer that is used twice.

        Raises:
            RuntimeError: if it was never set.
        """
        if torch.compiler.is_compiling() and self._compiled_progress is not None:
            return self._compiled_progress
        return _scalar(self.progress)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device='cpu')
