"""The mathematics: tensors in, tensors out. Nothing here imports a host; torch alone, and what checks arguments."""

from .activations import EDE, ActivationBinarizer, ApproxSign, ReSTE, RSign, STESign, sign
from .binarizer import Binarizer, Scheduled
from .dual_path import DualPath, DualPathSpec, infer
from .maps import Convolution, LinearMap
from .scale import STATISTICS, AdaptiveScale, FixedScale, set_sync_group
from .weights import (
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
    'STATISTICS',
    'XNOR',
    'ActivationBinarizer',
    'AdaBin',
    'AdaptiveScale',
    'ApproxSign',
    'Binarizer',
    'Convolution',
    'DualPath',
    'DualPathSpec',
    'FixedScale',
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
    'TwoValues',
    'WeightBinarizer',
    'infer',
    'set_sync_group',
    'sign',
]
