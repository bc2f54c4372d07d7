"""The mathematics: tensors in, tensors out. Nothing here imports anything but torch."""

from .activations import ActivationBinarizer, ApproxSign, STESign, sign
from .dual_path import (
    STATISTICS,
    AdaptiveScale,
    Convolution,
    DualPath,
    DualPathSpec,
    FixedScale,
    LinearMap,
)
from .weights import ScaledSign, Sign, WeightBinarizer

__all__ = [
    'STATISTICS',
    'ActivationBinarizer',
    'AdaptiveScale',
    'ApproxSign',
    'Convolution',
    'DualPath',
    'DualPathSpec',
    'FixedScale',
    'LinearMap',
    'STESign',
    'ScaledSign',
    'Sign',
    'WeightBinarizer',
    'sign',
]
