"""Reading, merging and validating the config of a tool."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from surge_mm.preflight.config_keys import check_names, is_imported
from surge_mm.utils.class_names import class_name, registered_name
from surge_mm.utils.errors import LaunchError, describe_error
from surge_mm.utils.hosts import FAMILY, is_installed_host, missing_host


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the arguments that the tools share.

    Args:
        args (argparse.Namespace): result of a parser with
            :func:`surge_mm.launch.cli.add_common_arguments` or :func:`surge_mm.launch.cli.add_settings`.

    Returns:
        Config: the config, with ``work_dir`` and ``launcher`` set.

    Raises:
        LaunchError: if the file is missing or unreadable, has misspelt keys, or is for a host that is not installed.
    """
    path = Path(args.config)
    if not path.is_file():
        raise LaunchError(
            f'config {args.config!r}: there is no such file (current directory {Path.cwd()})'
        )
    cfg = read_config(args.config)
    try:
        cfg.merge_from_dict(args.cfg_options or {})
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise LaunchError(
            f'--cfg-options {args.cfg_options} do not fit the config: {error}'
        ) from error
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    if cfg.get('default_scope') is None and (host := _host_of(cfg.get('model'))):
        cfg.default_scope = host  # configs of the new style have none
    try:
        check_names(cfg)
    except LaunchError as error:
        raise LaunchError(f'config {args.config!r}: {error}') from error
    if not is_installed_host(scope := cfg.get('default_scope')):
        raise LaunchError(
            f'config {args.config!r}: default_scope={scope!r} {missing_host(scope)}; '
            "inherit from a config of the host, e.g. _base_ = 'mmdet::_base_/default_runtime.py'"
        )
    if not cfg.get('model'):
        raise LaunchError(f'config {args.config!r} has no model')
    if Path(cfg.work_dir).is_file():
        raise LaunchError(f'work_dir {cfg.work_dir!r} is a file; set a folder with --work-dir')
    return cfg


def read_config(path: str | Path) -> Config:
    """Read a config.

    Args:
        path (str or Path): its file.

    Raises:
        LaunchError: if it cannot be read.
    """
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program, which may raise anything
        raise LaunchError(
            f'config {str(path)!r} cannot be read: {describe_error(error)}'
        ) from error


def with_names(cfg: Config) -> Config:
    """Return a config of the new style as one that can be written to a file: with names in place of its classes.

    Args:
        cfg (Config): a config of either style, or a method, which has no scope.
    """
    scope = cfg.get('default_scope') or _host_of(cfg.get('model'))

    def named(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: named(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(named(inner) for inner in value)
        return registered_name(value, scope) if callable(value) else value

    content = {key: named(value) for key, value in cfg.items() if not is_imported(value)}
    if scope:
        content['default_scope'] = scope
    return Config(content, filename=cfg.filename)


def _host_of(model: Any) -> str | None:
    """Return the host whose class a model is, from the class itself or its name; None if it is of no host."""
    kinds = [model.get(key) for key in ('base_type', 'type')] if isinstance(model, Mapping) else []
    names = [getattr(kind, '__module__', kind) for kind in kinds]
    return next(
        (host for host in FAMILY for name in names if str(name).split('.')[0] == host), None
    )


def dropped_hooks(cfg: Config) -> list[str]:
    """Return the names of hooks that a base of a config has, but not the config.

    ``custom_hooks`` is a list. One in the config replaces that of a base as a whole.

    Args:
        cfg (Config): config of a run, read from a file.
    """
    kept = _types([*(cfg.get('custom_hooks') or []), *(cfg.get('default_hooks') or {}).values()])
    dropped = []
    for base in Config._get_base_files(cfg.filename):
        path, _ = Config._get_cfg_path(base, cfg.filename)
        inherited = Config.fromfile(path, import_custom_modules=False).get('custom_hooks')
        dropped += [name for name in _types(inherited or []) if name not in kept]
    return dropped


def _types(hooks: list[Any]) -> list[str]:
    return [
        class_name(hook['type']) for hook in hooks if isinstance(hook, Mapping) and 'type' in hook
    ]
