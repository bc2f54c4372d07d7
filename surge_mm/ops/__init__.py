"""The mathematics of SURGE: tensors in, tensors out. Needs PyTorch alone."""

from surge_mm.ops.activation_binarizers import (
    EDE,
    ActivationBinarizer,
    ApproxSign,
    ReSTE,
    RSign,
    STESign,
    sign,
)
from surge_mm.ops.binarizer import Binarizer, Scheduled
from surge_mm.ops.dual_path import DualPath, DualPathSpec, EagerDualPath, read_constants
from surge_mm.ops.gradient_scale import (
    AdaptiveScale,
    FixedScale,
    GradientScale,
    Statistics,
    eta_of_growth,
    set_sync_group,
)
from surge_mm.ops.inference import infer
from surge_mm.ops.linear_maps import Convolution, LinearMap
from surge_mm.ops.weight_binarizers import (
    XNOR,
    AdaBin,
    Libra,
    ReAct,
    Real,
    ReCU,
    ScaledSign,
    Sign,
    TwoValues,
    WeightBinarizer,
)

__all__ = [
    'EDE',
    'XNOR',
    'ActivationBinarizer',
    'AdaBin',
    'AdaptiveScale',
    'ApproxSign',
    'Binarizer',
    'Convolution',
    'DualPath',
    'DualPathSpec',
    'EagerDualPath',
    'FixedScale',
    'GradientScale',
    'Libra',
    'LinearMap',
    'RSign',
    'ReAct',
    'ReCU',
    'ReSTE',
    'Real',
    'STESign',
    'ScaledSign',
    'Scheduled',
    'Sign',
    'Statistics',
    'TwoValues',
    'WeightBinarizer',
    'eta_of_growth',
    'infer',
    'read_constants',
    'set_sync_group',
    'sign',
]
