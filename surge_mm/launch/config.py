"""Reading, merging and validating the config of a tool."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, Registry

from surge_mm.preflight.config_keys import check_names
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.registry_errors import suggest_registered

HOSTS = ('mmdet', 'mmpretrain')


def load_config(args: argparse.Namespace) -> Config:
    """Read ``args.config`` and apply the arguments that the tools share.

    Args:
        args (argparse.Namespace): result of a parser with
            :func:`surge_mm.launch.cli.add_common_arguments` or :func:`surge_mm.launch.cli.add_settings`.

    Returns:
        Config: the config, with ``work_dir`` and ``launcher`` set.

    Raises:
        LaunchError: if the file is missing or unreadable, has misspelt keys, or is not for MMDetection or MMPretrain.
    """
    path = Path(args.config)
    if not path.is_file():
        raise LaunchError(
            f'config {args.config!r}: there is no such file (current directory {Path.cwd()})'
        )
    try:
        cfg = Config.fromfile(args.config)
    except Exception as error:  # a config is a program, which may raise anything
        kind = type(error).__name__
        raise LaunchError(f'config {args.config!r} cannot be read: {kind}: {error}') from error
    _merge(cfg, args.cfg_options or {})
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    try:
        check_names(cfg)
        _check_host(cfg)
    except LaunchError as error:
        raise LaunchError(f'config {args.config!r}: {error}') from error
    if Path(cfg.work_dir).is_file():
        raise LaunchError(f'work_dir {cfg.work_dir!r} is a file; set a folder with --work-dir')
    return cfg


def _merge(cfg: Config, settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise LaunchError(
                f'--cfg-options {key}={value!r} does not fit the config: {error}'
            ) from error


def _check_host(cfg: Config) -> None:
    scope = cfg.get('default_scope')
    if scope not in HOSTS:
        raise LaunchError(
            f'default_scope={scope!r} must be one of {", ".join(HOSTS)}; inherit from a config of the host, e.g. '
            "_base_ = 'mmdet::_base_/default_runtime.py'"
        )
    model_type = (cfg.get('model') or {}).get('type')
    if model_type is None:
        raise LaunchError('model.type is missing; a config of a run needs a model')
    if not isinstance(model_type, str):
        return
    with (
        DefaultScope.overwrite_default_scope(scope),
        MODELS.switch_scope_and_registry(None) as registry,
    ):
        if _has(registry, model_type):
            return
        other = HOSTS[1 - HOSTS.index(scope)]
        hint = f'it belongs to {other}: set default_scope={other!r}'
        if not _has(registry, f'{other}.{model_type}'):
            hint = f'neither host has it{suggest_registered(model_type, registry)}'
    raise LaunchError(f'{scope} has no model {model_type!r}; {hint}')


def _has(registry: Registry, name: str) -> bool:
    try:
        return registry.get(name) is not None
    except (KeyError, RuntimeError, ImportError):
        return False
