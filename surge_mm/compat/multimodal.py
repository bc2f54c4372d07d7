"""Let MMPretrain be imported beside a current ``transformers``.

MMPretrain 1.2 imports its multimodal models whenever ``transformers`` is installed, and all of MMPretrain fails with
them if a name is missing: transformers 4.52 and later lack names that they import. MMPretrain has a switch,
``mmpretrain.utils.dependency.WITH_MULTIMODAL``, which must be set before its models are imported. Importing MMPretrain
takes seconds, so the switch is set when MMPretrain is imported, not before.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from types import ModuleType

from packaging.version import Version

SWITCH_MODULE = 'mmpretrain.utils.dependency'
FIRST_BROKEN = Version('4.52')


def disable_broken_multimodal() -> None:
    """Disable the multimodal models of MMPretrain if the installed ``transformers`` is too new for them."""
    if SWITCH_MODULE in sys.modules:
        _disable(sys.modules[SWITCH_MODULE])
    elif not any(isinstance(finder, _SwitchFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SwitchFinder())


def _disable(switch: ModuleType) -> None:
    if not switch.WITH_MULTIMODAL or Version(version('transformers')) < FIRST_BROKEN:
        return
    switch.WITH_MULTIMODAL = False  # type: ignore[attr-defined]
    if os.environ.get('RANK', '0') == '0':
        warnings.warn(
            'the multimodal models of MMPretrain are disabled: they cannot be imported with transformers '
            f'{version("transformers")}. All other models are available. To use the multimodal ones, install '
            f'"transformers<{FIRST_BROKEN}"',
            stacklevel=2,
        )


class _SwitchFinder(MetaPathFinder):
    """Find :data:`SWITCH_MODULE` as Python does, and wrap its loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != SWITCH_MODULE:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _SwitchLoader(spec.loader)
        return spec


class _SwitchLoader(Loader):
    """Load a module by another loader, then call :func:`_disable` with it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _disable(module)
