"""Configs of the new style: Python files that import the classes which they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

REGISTRIES = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]


class _Name(str):
    """A name in the code, printed without quotes."""

    __repr__ = str.__str__


def write_new_style(config: Path, out: Path) -> Path:
    """Write a config anew with an imported class in place of each name of a class, and without a default scope.

    Args:
        config (Path): A config of the host's style.
        out (Path): The new file.
    """
    cfg = Config.fromfile(config)
    scope = cfg.pop('default_scope')
    imports: dict[str, str] = {}

    def converted(value: Any, registries: list[Registry]) -> Any:
        if isinstance(value, Mapping):
            return {
                key: _class(inner) if key in ('type', 'base_type') else converted(inner, registries)
                for key, inner in value.items()
                if key != '_scope_'
            }
        if isinstance(value, (list, tuple)):
            return type(value)(converted(inner, registries) for inner in value)
        return value

    def _class(name: Any) -> Any:
        for registry in REGISTRIES:
            with registry.switch_scope_and_registry(scope) as own:
                found = (
                    own.get(name) if '.' not in name or name.split('.')[0] in own.children else None
                )
                found = found or registry.get(name) if name.startswith('surge_mm.') else found
            if found is not None:
                imports[found.__name__] = found.__module__
                return _Name(found.__name__)
        return name

    with DefaultScope.overwrite_default_scope(scope):
        body = [f'{key} = {converted(value, REGISTRIES)!r}' for key, value in cfg.to_dict().items()]
    imported = [f'from {module} import {name}' for name, module in imports.items()]
    base = out.with_name(f'{out.stem}_base.py')
    base.write_text('\n'.join([*imported, 'default_scope = None', *body]) + '\n')
    out.write_text(
        f'from mmengine.config import read_base\n\nwith read_base():\n    from .{base.stem} import *\n'
    )
    return out
