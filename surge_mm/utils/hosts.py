"""The packages of OpenMMLab, which have registries of their own below those of MMEngine, and their configs."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope

from surge_mm.utils.errors import LaunchError

FAMILY = {name: package for name, package in MODULE2PACKAGE.items() if name.startswith('mm')}
"""Module of each package, and the name by which pip installs it."""


_scope_lock = threading.RLock()


def _renew_lock() -> None:
    global _scope_lock
    _scope_lock = threading.RLock()


if hasattr(os, 'register_at_fork'):  # another thread of the parent may hold it
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def default_scope(name: str | None) -> Iterator[None]:
    """Let the registries of MMEngine look up names in a host first.

    The scope is one for all threads, so one of them at a time is in such a context.

    Args:
        name (str, optional): Name of a host. None for the scope as it is.
    """
    with _scope_lock, DefaultScope.overwrite_default_scope(name):
        yield


def is_installed_host(scope: Any) -> bool:
    """Return whether a scope is the name of an installed package of OpenMMLab, such as ``'mmseg'``."""
    return isinstance(scope, str) and scope in FAMILY and find_spec(scope) is not None


def installed_hosts() -> list[str]:
    """Return the names of the installed packages of OpenMMLab, those that this package requires first."""
    first = ['mmdet', 'mmpretrain']
    return [*first, *(name for name in FAMILY if name not in first and is_installed_host(name))]


def missing_host(scope: Any) -> str:
    """Return the end of an error about a scope that :func:`is_installed_host` does not accept."""
    if isinstance(scope, str) and scope in FAMILY:
        return f'needs {FAMILY[scope]}, which is not installed: pip install {FAMILY[scope]}'
    return f'must be one of {", ".join(installed_hosts())}'


def find_config(name: str) -> str:
    """Return the path of a config.

    Args:
        name (str): A path, or a name with the prefix of an installed host, such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.

    Raises:
        LaunchError: if there is no such host or no such file in it.
    """
    if '::' not in name:
        return name
    try:
        return str(Config._get_cfg_path(name, 'config')[0])
    except (OSError, ImportError, ValueError, AssertionError) as error:
        raise LaunchError(f'config {name!r}: {error}') from error


def model_config(cfg: Config) -> ConfigDict:
    """Return a copy of the config of the model, with the data preprocessor that MMEngine's Runner gives it.

    Args:
        cfg (Config): A config with a ``model``.
    """
    model = copy.deepcopy(cfg.model)  # detectors write into their settings
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return model
