"""Binary neural networks trained by SURGE, for OpenMMLab.

A plugin for MMDetection and MMPretrain that implements "SURGE: Surrogate Gradient Adaptation in
Binary Neural Networks" (ICML 2026, arXiv 2605.10989, https://arxiv.org/abs/2605.10989): layers whose
weights and activations are signs, trained through a full-precision auxiliary branch that exists in
the backward pass only.

The layers and :func:`binarize` need PyTorch alone. Where MMEngine is installed, importing this package also prepares
the OpenMMLab stack (:mod:`surge_mm.compat`) and makes the names of its registries known. MMDetection and MMPretrain are
imported only when one of the names below that needs them is used.
"""

# ruff: noqa: E402  the stack is checked before anything that needs it is imported

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from surge_mm._names import PACKAGE, lazily
from surge_mm._stack import StackError, check_stack
from surge_mm.version import __version__

_HOSTS_INSTALLED = find_spec('mmengine') is not None
if _HOSTS_INSTALLED:
    check_stack()

from surge_mm.layers import BinaryLayer, RPReLU, SurgeConv2d, SurgeLinear, set_progress

_SUBPACKAGES = ('analysis', 'datasets', 'deploy', 'hooks', 'models', 'ops', 'runner')
__all__ = [
    'BinaryLayer',
    'RPReLU',
    'SurgeConv2d',
    'SurgeLinear',
    '__version__',
    'set_progress',
    *PACKAGE,
]
_import_name, _known_names = lazily(globals(), PACKAGE)


def __getattr__(name: str) -> Any:
    """Import a public name, or a sub-package, when it is first used."""
    try:
        return import_module(f'surge_mm.{name}') if name in _SUBPACKAGES else _import_name(name)
    except ModuleNotFoundError as error:
        if not _HOSTS_INSTALLED:
            raise StackError(
                f'surge_mm.{name} needs {error.name}, which is not installed. Run: pip install "surge_mm[lite]"'
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*_known_names(), *_SUBPACKAGES})


if _HOSTS_INSTALLED:
    from surge_mm.compat import install_patches

    install_patches()
