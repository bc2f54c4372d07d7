"""Imports of the hosts without what finding boxes does not use, for programs that only run a detector."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

OPTIONAL = ('mmpretrain', 'seaborn', 'sklearn')
"""Packages that MMDetection imports if they are installed, and works without."""
DEFERRED = (
    # torch.distributed.fsdp and .optim
    'mmengine._strategy.fsdp',
    'mmengine.model.wrappers.fully_sharded_distributed',
    'mmengine.optim.optimizer.zero_optimizer',
    # matplotlib
    'mmdet.utils.mot_error_visualize',
    # scipy
    'mmdet.evaluation.metrics.crowdhuman_metric',
    'mmdet.models.task_modules.assigners.hungarian_assigner',
    'mmdet.models.task_modules.assigners.topk_hungarian_assigner',
    'mmdet.models.task_modules.tracking.aflink',
    'mmdet.models.task_modules.tracking.kalman_filter',
)
"""Modules of the hosts that need a large package, by package. Nothing but the packages around them imports them."""


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import the hosts for a detector alone, for a faster start in less memory.

    Packages that MMDetection uses if they are there, MMPretrain, seaborn and scikit-learn, are hidden from it. The
    parts that need them, re-identification and the interpolation of tracks, are then as if the packages were not
    installed, until the process ends. A few modules of the hosts, for training on several GPUs, assignments by the
    Hungarian algorithm and tracks, are imported when one of their names is first used, and are in no registry before.
    What is imported already stays.

    Example:
        >>> with lean_imports():
        ...     detector = Detector('detector.safetensors')
    """
    hidden = [name for name in OPTIONAL if name not in sys.modules]
    deferred = [name for name in DEFERRED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import is an ImportError
    for name in deferred:
        sys.modules[name] = _Deferred(name)
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
        for name in deferred:
            sys.modules.pop(name, None)
        for package in {name for module in deferred for name in _packages_around(module)}:
            if package in sys.modules:
                _import_when_used(sys.modules[package])


class _Deferred(ModuleType):
    """A module that is not imported yet. An import of a name from it returns the module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return self


def _packages_around(module: str) -> list[str]:
    parts = module.split('.')
    return ['.'.join(parts[:count]) for count in range(1, len(parts))]


def _import_when_used(package: ModuleType) -> None:
    """Remove the names of deferred modules from a package, and import the modules when such a name is used."""
    homes = {
        name: value.__name__
        for name, value in vars(package).items()
        if isinstance(value, _Deferred)
    }
    if not homes:
        return
    for name in homes:
        delattr(package, name)

    def import_name(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f'module {package.__name__!r} has no attribute {name!r}')

    package.__getattr__ = import_name  # type: ignore[method-assign]
