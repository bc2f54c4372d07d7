"""Patches of modules that a process may never import."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_patches: dict[str, Callable[[ModuleType], object]] = {}


class _PatchingFinder(MetaPathFinder):
    """Find the modules of ``_patches`` where Python finds them; their code, once it has run, is patched."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _patches:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def run_and_patch(module: ModuleType) -> None:
                run(module)
                _patches[name](module)

            loader.exec_module = run_and_patch
        return spec


def when_imported(name: str, patch: Callable[[ModuleType], object]) -> None:
    """Patch a module, now if it is imported already, else as soon as it is. A second call for it changes nothing.

    Args:
        name (str): Full name of a module, not that of a top-level package.
        patch (Callable): Function of the module that changes it. One for each module.
    """
    if name in _patches:
        return
    if not _patches:
        sys.meta_path.insert(0, _PatchingFinder())
    _patches[name] = patch
    if name in sys.modules:
        patch(sys.modules[name])
