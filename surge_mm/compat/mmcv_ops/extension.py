"""A stand-in for ``mmcv._ext``, the compiled half of mmcv, where only mmcv-lite is installed.

``mmcv.ops`` asks ``mmcv._ext`` for a function per operator. Compiling them needs a compiler and
much time, and most detectors need few of them, which torchvision (or plain tensor code) has as
well. So without a compiled extension, a module of that name is put into ``sys.modules``:

- the operators in ``SERVED`` compute what mmcv's own do, on whatever device the tensors are;
- any other name gives a function that says, when it is called, which operator is missing.

A compiled extension is never replaced, not even one that fails to load: its own error says why.
"""

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torchvision

from surge_mm.compat.mmcv_ops import deform_conv, focal_loss, nms, roi


def get_compiler_version() -> str:
    """What MMEngine's report on the environment says of mmcv's compiler."""
    return f'n/a (operators served by torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """What MMEngine's report on the environment says of the CUDA that mmcv was compiled with."""
    return 'n/a'


SERVED: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        nms.nms,
        nms.nms_match,
        nms.softnms,
        roi.roi_align_forward,
        roi.roi_align_backward,
        roi.roi_pool_forward,
        roi.roi_pool_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.sigmoid_focal_loss_backward,
        focal_loss.softmax_focal_loss_forward,
        focal_loss.softmax_focal_loss_backward,
        deform_conv.deform_conv_forward,
        deform_conv.deform_conv_backward_input,
        deform_conv.deform_conv_backward_parameters,
        deform_conv.modulated_deform_conv_forward,
        deform_conv.modulated_deform_conv_backward,
        get_compiler_version,
        get_compiling_cuda_version,
    )
}


def install_mmcv_ops() -> bool:
    """Put the stand-in for ``mmcv._ext`` in place, unless mmcv has its compiled operators.

    Calling it again changes nothing.

    Returns:
        bool: Whether the stand-in serves.
    """
    loaded = sys.modules.get('mmcv._ext')
    if loaded is None and find_spec('mmcv._ext') is None:
        loaded = _stand_in()
        sys.modules['mmcv._ext'] = loaded
        _complete_transformer()
    return getattr(loaded, '__serves__', None) is SERVED


def _stand_in() -> ModuleType:
    module = ModuleType('mmcv._ext', 'Operators of mmcv served by torchvision.')
    # MMEngine and mmcv take the presence of a loader for the presence of the operators.
    module.__spec__ = ModuleSpec(
        'mmcv._ext', SourceFileLoader('mmcv._ext', __file__), origin=__file__
    )
    vars(module).update(SERVED, __serves__=SERVED, __getattr__=_not_served)
    return module


def _not_served(name: str) -> Callable[..., Any]:
    """Module ``__getattr__``: any name imports, and what is not served fails when it is called."""
    if name.startswith('__'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def operator(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'the operator {name!r} is not available: mmcv-lite has no compiled operators, and '
            'surge_mm serves none of this name in their place. Install the full mmcv: '
            'pip uninstall mmcv-lite && pip install "mmcv>=2.0,<2.2" (or: mim install "mmcv<2.2")'
        )

    operator.__name__ = name
    return operator


def _complete_transformer() -> None:
    """Give ``mmcv.cnn.bricks.transformer`` the name it lacks if it was loaded before the stand-in.

    MMDetection imports ``MultiScaleDeformableAttention`` from there.
    """
    transformer = sys.modules.get('mmcv.cnn.bricks.transformer')
    if transformer is not None and not hasattr(transformer, 'MultiScaleDeformableAttention'):
        attention = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
        vars(transformer)['MultiScaleDeformableAttention'] = attention.MultiScaleDeformableAttention
