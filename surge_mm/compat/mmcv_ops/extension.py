"""Replacement of ``mmcv._ext``, the compiled part of mmcv, where only mmcv-lite is installed.

``mmcv.ops`` imports a function from ``mmcv._ext`` for each operator. Compiling them takes a compiler and much time, and
most detectors use few of them, which torchvision or tensor code can compute. Without a compiled extension, a module of
that name is added to ``sys.modules``:

- the operators in ``SERVED`` compute the same as those of mmcv, on the device of their tensors;
- any other name is a function that raises an error with the name of the missing operator when it is called.

A compiled extension is never replaced, even if it fails to load, so that its own error is visible.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import version
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from surge_mm.compat.mmcv_ops import deform_conv, focal_loss, ms_deform_attn, nms, roi


def get_compiler_version() -> str:
    """Return the entry for the compiler of mmcv in MMEngine's report on the environment."""
    return f'n/a (operators of torchvision {version("torchvision")})'


def get_compiling_cuda_version() -> str:
    """Return the entry for the CUDA of mmcv in MMEngine's report on the environment."""
    return 'n/a'


SERVED: dict[str, Callable[..., Any]] = {
    name: function
    for module in (deform_conv, focal_loss, ms_deform_attn, nms, roi, sys.modules[__name__])
    for name, function in vars(module).items()
    if getattr(function, '__module__', None) == module.__name__ and not name.startswith('_')
}
"""Operators by name: the public functions of the modules of the families, and the two functions above."""


def install_mmcv_ops() -> bool:
    """Install the replacement of ``mmcv._ext``, unless mmcv has compiled operators. A second call changes nothing.

    Returns:
        bool: whether the replacement is installed.
    """
    loaded = sys.modules.get('mmcv._ext')
    if loaded is None and find_spec('mmcv._ext') is None:
        loaded = _replacement()
        sys.modules['mmcv._ext'] = loaded
        _complete_transformer()
    return getattr(loaded, '__serves__', None) is SERVED


def _replacement() -> ModuleType:
    module = ModuleType('mmcv._ext', 'Operators of mmcv, computed by torchvision.')
    # MMEngine and mmcv look for a loader to find out whether there are operators
    module.__spec__ = ModuleSpec(
        'mmcv._ext', SourceFileLoader('mmcv._ext', __file__), origin=__file__
    )
    vars(module).update(SERVED, __serves__=SERVED, __getattr__=_not_served)
    return module


def _not_served(name: str) -> Callable[..., Any]:
    """Return the operator of a name that is not in ``SERVED`` (the ``__getattr__`` of the module)."""
    if name.startswith('__'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def operator(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'the operator {name!r} is not available: mmcv-lite has no compiled operators, and surge_mm does not '
            'replace this one. Install the full mmcv: '
            'pip uninstall mmcv-lite && pip install "mmcv>=2.0,<2.2" (or: mim install "mmcv<2.2")'
        )

    operator.__name__ = name
    return operator


def _complete_transformer() -> None:
    """Add the missing name to ``mmcv.cnn.bricks.transformer``, if it was loaded before the replacement.

    MMDetection imports ``MultiScaleDeformableAttention`` from there.
    """
    transformer = sys.modules.get('mmcv.cnn.bricks.transformer')
    if transformer is not None and not hasattr(transformer, 'MultiScaleDeformableAttention'):
        attention = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
        vars(transformer)['MultiScaleDeformableAttention'] = attention.MultiScaleDeformableAttention
